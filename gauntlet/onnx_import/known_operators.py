"""The supported operators: the domains of the standard, and quantised operators of ONNX Runtime."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

RUNTIME = "com.microsoft"
QUANTISED = frozenset(
    {
        "DequantizeLinear",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QuantizeLinear",
    }
)
"""Supported operators of the domain com.microsoft, which ``onnxruntime.quantization`` writes."""
