"""Convert a quantised ONNX graph into a float graph that rounds at the same places, for straight-through gradients.

QuantizeLinear becomes a division, a Round and a Clip, DequantizeLinear a product; weights are dequantised once. The
operators of ONNX Runtime's quantisers that compute on bytes become the corresponding operators on floats, between such
steps. Integers up to 255 are exact in float32, so the function is the same except for the order of sums.

Quantisation: "Quantizing deep convolutional networks for efficient inference", arXiv 1806.08342.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[np.generic]

BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16})
PREFIX = "gauntlet.float"


def is_quantised(model: onnx.ModelProto) -> bool:
    """Return whether the graph contains an operator of a quantiser, so that ONNX Runtime may round while serving it.

    Quantised weights alone are enough: ONNX Runtime then multiplies in eight bits too.
    """
    return any(node.op_type in OPERATORS for node in model.graph.node)


def as_floats(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return the float graph, and the names of its tensors that are outputs of a rounding operator.

    The straight-through estimator applies to these tensors. Raises ValueError with the reason if an operator is used in
    a form without a rule, or if a scale is not a constant.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    writer = _FloatGraphWriter(converted)
    nodes = list(converted.graph.node)
    del converted.graph.node[:]
    for node in nodes:
        writer.convert(node)
    for tensor in converted.graph.initializer:
        if tensor.data_type in BYTES:  # a data-moving operator, which now has float inputs, may read it
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    standard = [entry for entry in converted.opset_import if entry.domain in ("", "ai.onnx")]
    del converted.opset_import[:]
    converted.opset_import.extend(standard)
    del converted.graph.value_info[:]
    return converted, writer.rounded


class _FloatGraphWriter:
    """Writes the nodes of the float graph, one rule for each quantised operator."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._to_bytes = {
            node.input[0] for node in model.graph.node if node.op_type == "Cast" and _attributes(node)["to"] in BYTES
        }
        self._count = 0
        self.rounded: list[str] = []

    def convert(self, node: NodeProto) -> None:
        """Write the nodes that replace this node."""
        rule = self.RULES.get(node.op_type)
        if rule is not None:
            rule(self, node)
        elif node.op_type == "Cast" and _attributes(node)["to"] in BYTES:
            self._write("Identity", [node.input[0]], to=node.output[0])
        else:
            self._graph.node.append(node)
            if node.op_type in ("Floor", "Round", "Ceil") and node.output[0] in self._to_bytes:
                self.rounded.append(node.output[0])

    # Steps

    def _write(self, operator: str, reads: list[str], to: str | None = None, **given: Any) -> str:
        self._count += 1
        name = to or f"{PREFIX}{self._count}"
        self._graph.node.append(helper.make_node(operator, reads, [name], **given))
        return name

    def _number(self, value: Any, to: str | None = None) -> str:
        self._count += 1
        name = to or f"{PREFIX}{self._count}"
        self._constants[name] = np.asarray(value, np.float32)
        self._graph.initializer.append(numpy_helper.from_array(self._constants[name], name))
        return name

    def _value(self, node: NodeProto, place: int) -> NDArray[np.float64] | None:
        """Return a constant input in float64; None if the node does not have this input."""
        name = node.input[place] if len(node.input) > place else ""
        if not name:
            return None
        if name not in self._constants:
            raise ValueError(f"the input {place} of {node.op_type} {node.name!r} is not a constant")
        return self._constants[name].astype(np.float64)

    def _scale(self, node: NodeProto, place: int) -> NDArray[np.float64]:
        found = self._value(node, place)
        if found is None:
            raise ValueError(f"the input {place} of {node.op_type} {node.name!r} is missing")
        return found

    def _dequantised(self, node: NodeProto, place: int, axis: int = 1, to: str | None = None) -> str:
        """Write input ``place`` in floats, and return its name; scale and zero point are the two inputs after it."""
        name, scale, zero = node.input[place], self._scale(node, place + 1), self._value(node, place + 2)
        zero = np.zeros(()) if zero is None else zero
        if name in self._constants:
            value = self._constants[name].astype(np.float64)
            return self._number((value - _along(zero, value.ndim, axis)) * _along(scale, value.ndim, axis), to)
        if scale.size > 1:
            raise ValueError(f"{node.op_type} {node.name!r} has a scale for each channel of a variable tensor")
        if zero.any():
            name = self._write("Sub", [name, self._number(zero.reshape(()))])
        return self._write("Mul", [name, self._number(scale.reshape(()))], to)

    def _quantised(self, node: NodeProto, name: str, place: int, to: str) -> None:
        """Quantise the float tensor ``name`` to ``to``; scale and zero point are inputs ``place`` and the next."""
        scale = self._scale(node, place)
        zero = self._constants[node.input[place + 1]] if len(node.input) > place + 1 else np.zeros((), np.uint8)
        if scale.size > 1 or zero.dtype.kind not in "iu":
            raise ValueError(f"{node.op_type} {node.name!r} has no single scale")
        limits = np.iinfo(zero.dtype.name)
        divided = self._write("Div", [name, self._number(scale.reshape(()))])
        self.rounded.append(self._write("Round", [divided]))
        moved = self._write("Add", [self.rounded[-1], self._number(zero.reshape(()))])
        self._write("Clip", [moved, self._number(limits.min), self._number(limits.max)], to)

    # Rules

    def _dequantize_linear(self, node: NodeProto) -> None:
        given = _attributes(node)
        if given.get("block_size", 0):
            raise ValueError(f"{node.op_type} {node.name!r} has a scale for each block")
        self._dequantised(node, 0, given.get("axis", 1), node.output[0])

    def _quantize_linear(self, node: NodeProto) -> None:
        self._quantised(node, node.input[0], 1, node.output[0])

    def _convolution(self, node: NodeProto) -> None:
        x, w = self._dequantised(node, 0), self._dequantised(node, 3, axis=0)
        bias = self._value(node, 8)
        scales = (self._scale(node, 1), self._scale(node, 4))
        reads = [x, w] if bias is None else [x, w, self._number(bias * scales[0] * scales[1])]
        self._quantised(node, self._write("Conv", reads, **_attributes(node)), 6, node.output[0])

    def _product(self, node: NodeProto) -> None:
        weight = self._constants.get(node.input[3])
        second = self._dequantised(node, 3, axis=-1 if weight is None else weight.ndim - 1)
        self._quantised(node, self._write("MatMul", [self._dequantised(node, 0), second]), 6, node.output[0])

    def _gemm(self, node: NodeProto) -> None:
        given = _attributes(node)
        a, b = self._dequantised(node, 0), self._dequantised(node, 3, axis=0 if given.get("transB", 0) else 1)
        bias, scales = self._value(node, 6), (self._scale(node, 1), self._scale(node, 4))
        reads = [a, b]
        if bias is not None:
            reads.append(self._number(bias * scales[0] * scales[1] * given.get("alpha", 1.0)))
        scaled = len(node.input) > 7 and bool(node.input[7])
        result = self._write("Gemm", reads, None if scaled else node.output[0], **given)
        if scaled:
            self._quantised(node, result, 7, node.output[0])

    def _pair(self, node: NodeProto) -> None:
        reads = [self._dequantised(node, 0), self._dequantised(node, 3)]
        self._quantised(node, self._write(node.op_type.removeprefix("QLinear"), reads), 6, node.output[0])

    def _single(self, node: NodeProto) -> None:
        given = _attributes(node)
        if given.pop("channels_last", 0):
            raise ValueError(f"{node.op_type} {node.name!r} has its channels last")
        if node.op_type == "QLinearSoftmax":
            given.pop("opset", None)
        result = self._write(node.op_type.removeprefix("QLinear"), [self._dequantised(node, 0)], **given)
        self._quantised(node, result, 3, node.output[0])

    def _concat(self, node: NodeProto) -> None:
        reads = [self._dequantised(node, place) for place in range(2, len(node.input), 3)]
        self._quantised(node, self._write("Concat", reads, **_attributes(node)), 0, node.output[0])

    def _dynamic(self, node: NodeProto) -> None:
        """Compute scale and zero point from the minimum and maximum of the values and zero; quantise to 0..255."""
        x, (to, scale, zero) = node.input[0], node.output
        low = self._write("Min", [self._write("ReduceMin", [x], keepdims=0), self._number(0)])
        high = self._write("Max", [self._write("ReduceMax", [x], keepdims=0), self._number(0)])
        self._write("Div", [self._write("Sub", [high, low]), self._number(255)], scale)
        lifted = self._write("Div", [self._write("Neg", [low]), scale])
        self.rounded.append(self._write("Round", [lifted], zero))
        self.rounded.append(self._write("Round", [self._write("Div", [x, scale])]))
        moved = self._write("Add", [self.rounded[-1], zero])
        self._write("Clip", [moved, self._number(0), self._number(255)], to)

    def _minus_zero_point(self, node: NodeProto, place: int, axis: int) -> str:
        """Write input ``place`` minus its zero point, which is the second input after it, and return its name."""
        name, zero = node.input[place], node.input[place + 2] if len(node.input) > place + 2 else ""
        if name in self._constants:
            value, offset = self._constants[name].astype(np.float64), self._value(node, place + 2)
            return self._number(value if offset is None else value - _along(offset, value.ndim, axis))
        if zero in self._constants:
            zero = self._number(self._constants[zero].reshape(()))
        return self._write("Sub", [name, zero]) if zero else name

    def _integer_convolution(self, node: NodeProto) -> None:
        reads = [self._minus_zero_point(node, 0, 0), self._minus_zero_point(node, 1, 0)]
        self._write("Conv", reads, node.output[0], **_attributes(node))

    def _integer_product(self, node: NodeProto) -> None:
        reads = [self._minus_zero_point(node, 0, -1), self._minus_zero_point(node, 1, -1)]
        self._write("MatMul", reads, node.output[0])

    RULES: Mapping[str, Callable[["_FloatGraphWriter", NodeProto], None]] = {
        "ConvInteger": _integer_convolution,
        "DequantizeLinear": _dequantize_linear,
        "DynamicQuantizeLinear": _dynamic,
        "MatMulInteger": _integer_product,
        "QGemm": _gemm,
        "QLinearAdd": _pair,
        "QLinearAveragePool": _single,
        "QLinearConcat": _concat,
        "QLinearConv": _convolution,
        "QLinearGlobalAveragePool": _single,
        "QLinearLeakyRelu": _single,
        "QLinearMatMul": _product,
        "QLinearMul": _pair,
        "QLinearSigmoid": _single,
        "QLinearSoftmax": _single,
        "QuantizeLinear": _quantize_linear,
    }


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _along(values: NDArray[np.float64], rank: int, axis: int) -> NDArray[np.float64]:
    """Reshape a scalar, or a vector along an axis, so that it broadcasts with a tensor of this rank."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = values.size
    return values.reshape(shape)


OPERATORS = frozenset(_FloatGraphWriter.RULES)
"""Quantised operators that have a rule."""
