"""The operators that are taken: their domains, and the quantised ones that ONNX Runtime adds to the standard."""

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
"""Operators of the domain com.microsoft that ``onnxruntime.quantization`` writes."""
