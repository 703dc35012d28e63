"""Small networks with every operator that ONNX Runtime's quantiser knows, and its quantised versions of them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from tests import zoo

SHAPE = (1, 8, 8)


class _Images(CalibrationDataReader):
    """What the quantiser sees to choose its scales."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self._rest: Iterator[np.ndarray] = iter(draw.random((16, 4, *SHAPE), dtype=np.float32))

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self._rest, None)
        return None if images is None else {"x": images}


def _node(operator: str, reads: str, makes: str, **given: object) -> NodeProto:
    return helper.make_node(operator, reads.split(), [makes], name=makes, **given)


MIDDLES: dict[str, list[NodeProto]] = {
    "relu": [_node("Relu", "c", "m")],
    "leaky": [_node("LeakyRelu", "c", "m", alpha=0.1)],
    "sigmoid": [_node("Sigmoid", "c", "m")],
    "clip": [_node("Clip", "c low high", "m")],
    "add": [_node("Relu", "c", "r"), _node("Add", "r c", "m")],
    "mul": [_node("Sigmoid", "c", "r"), _node("Mul", "r c", "m")],
    "concat": [_node("Relu", "c", "r"), _node("LeakyRelu", "c", "l"), _node("Concat", "r l", "m", axis=1)],
    "average": [_node("AveragePool", "c", "m", kernel_shape=[2, 2], strides=[2, 2])],
    "global": [_node("GlobalAveragePool", "c", "m")],
    "max": [_node("Relu", "c", "r"), _node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2])],
    "softmax": [_node("Softmax", "c", "m", axis=1)],
    "two-convolutions": [_node("Relu", "c", "r"), _node("Conv", "r k2 b", "m", kernel_shape=[3, 3], group=4)],
}
"""From the output of a convolution, (batch, 4, 6, 6), to what the last layer takes."""


def network(middle: str, last: str = "Gemm", opset: int = 17) -> bytes:
    """A convolution, one of MIDDLES, and a Gemm or a MatMul; 5 classes."""
    draw = np.random.default_rng(len(middle))

    def weight(*shape: int) -> np.ndarray:
        return (draw.normal(size=shape) / max(1, np.prod(shape[1:])) ** 0.5).astype(np.float32)

    nodes = [_node("Conv", "x k b", "c", kernel_shape=[3, 3]), *MIDDLES[middle], _node("Flatten", "m", "f")]
    size = {"concat": 288, "average": 36, "max": 36, "global": 4, "two-convolutions": 64}.get(middle, 144)
    nodes.append(_node("Gemm", "f w o", "y") if last == "Gemm" else _node("MatMul", "f w", "y"))
    weights = {
        "k": 3 * weight(4, 1, 3, 3),
        "b": weight(4),
        "k2": weight(4, 1, 3, 3),
        "w": 20 * weight(size, 5),
        "o": weight(5),
    }
    weights |= {"low": np.float32(0), "high": np.float32(1)}
    used = {name for node in nodes for name in node.input}
    return zoo.build(nodes, {k: v for k, v in weights.items() if k in used}, ["n", *SHAPE], ["n", 5], opset=opset)


BLOCKS = {
    "relu": ("Relu", "{0}", {}),
    "leaky": ("LeakyRelu", "{0}", {"alpha": 0.2}),
    "sigmoid": ("Sigmoid", "{0}", {}),
    "clip": ("Clip", "{0} low high", {}),
    "twice": ("Add", "{0} {0}", {}),
    "skip": ("Add", "{0} c", {}),
    "gate": ("Mul", "{0} c", {}),
    "average": ("AveragePool", "{0}", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "max": ("MaxPool", "{0}", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "convolution": ("Conv", "{0} k1 b", {"kernel_shape": [1, 1]}),
    "transposed": ("Transpose", "{0}", {"perm": [0, 1, 3, 2]}),
}
"""Operators that keep (batch, 4, 6, 6): ``{0}`` is the tensor before, ``c`` the first convolution's."""


def chain(blocks: list[str], *, last: str, pooled: bool, seed: int) -> bytes:
    """A convolution, these blocks one after the other, perhaps a global pooling, and a Gemm or a MatMul; 5 classes."""
    draw = np.random.default_rng(seed)
    nodes, name = [_node("Conv", "x k b", "c", kernel_shape=[3, 3])], "c"
    for i, block in enumerate(blocks):
        operator, reads, given = BLOCKS[block]
        nodes.append(_node(operator, reads.format(name), f"m{i}", **given))
        name = f"m{i}"
    if pooled:
        nodes.append(_node("GlobalAveragePool", name, "g"))
    nodes.append(_node("Flatten", "g" if pooled else name, "f"))
    nodes.append(_node("Gemm", "f w o", "y") if last == "Gemm" else _node("MatMul", "f w", "y"))
    shapes = {"k": (4, 1, 3, 3), "k1": (4, 4, 1, 1), "b": (4,), "w": (4 if pooled else 144, 5), "o": (5,)}
    weights = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {"low": np.float32(-1), "high": np.float32(2)}
    used = {name for node in nodes for name in node.input}
    return zoo.build(nodes, {k: v for k, v in weights.items() if k in used}, ["n", *SHAPE], ["n", 5])


def quantise(
    data: bytes, folder: Path, *, form: QuantFormat, activations: QuantType, weights: QuantType, per_channel: bool
) -> bytes:
    """The network in eight bits."""
    floats, made = folder / "floats.onnx", folder / "quantised.onnx"
    floats.write_bytes(data)
    logging.disable(logging.WARNING)  # advice to preprocess
    try:
        quantize_static(
            floats,
            made,
            _Images(),
            quant_format=form,
            activation_type=activations,
            weight_type=weights,
            per_channel=per_channel,
        )
    finally:
        logging.disable(logging.NOTSET)
    return made.read_bytes()


def quantise_dynamically(data: bytes, folder: Path, weights: QuantType) -> bytes:
    """The network with weights in eight bits, and activations whose scale is found when they are computed."""
    floats, made = folder / "floats.onnx", folder / "dynamic.onnx"
    floats.write_bytes(data)
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(floats, made, weight_type=weights)
    finally:
        logging.disable(logging.NOTSET)
    return made.read_bytes()


def operators(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(data).graph.node}
