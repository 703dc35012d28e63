"""The prover's rules: from L2 Lipschitz constants (w.r.t. the image) of an operator's inputs to that of its output."""

import math
from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from gauntlet.certify import spectral_norms
from gauntlet.certify.activation_slopes import STEEPEST
from gauntlet.certify.graph_walk import Unprovable, Walk, attributes_of


def _same(walk: Walk, node: NodeProto) -> float:
    """Rule for an operator that is elementwise and 1-Lipschitz, or reorders the values."""
    return walk.only(node)


def _activation(walk: Walk, node: NodeProto) -> float:
    return walk.only(node) * STEEPEST[node.op_type](attributes_of(node))


def _prelu(walk: Walk, node: NodeProto) -> float:
    return walk.only(node) * max(1.0, float(np.abs(walk.constant(node.input[1])).max()))


def _add(walk: Walk, node: NodeProto) -> float:
    if any(walk.shape(name) != walk.shape(node.output[0]) for name in node.input if name in walk.bounds):
        raise Unprovable(f"{node.op_type} that copies values by broadcasting")
    return sum(walk.live(node))


def _scale(walk: Walk, node: NodeProto) -> float:
    factors = [walk.constant(name) for name in node.input if name not in walk.bounds]
    variable = next(name for name in node.input if name in walk.bounds)
    if len(factors) != 1 or walk.shape(variable) != walk.shape(node.output[0]):
        raise Unprovable(f"{node.op_type} that is not a scaling by a constant")
    if node.op_type == "Div":
        if variable != node.input[0]:
            raise Unprovable("Div by a variable")
        factors = [1 / factors[0]]
    return walk.bounds[variable] * float(np.abs(factors[0]).max())


def _linear(walk: Walk, node: NodeProto) -> float:
    return walk.only(node) * spectral_norms.dense(walk.matrix(node))


def _conv(walk: Walk, node: NodeProto) -> float:
    attributes = attributes_of(node)
    kernel = walk.constant(node.input[1])  # (out, in / groups, *k)
    rank = kernel.ndim - 2
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unprovable("Conv with auto_pad")
    sigma = spectral_norms.convolution(
        kernel,
        size=walk.shape(node.input[0])[2:],
        stride=attributes.get("strides", [1] * rank),
        padding=attributes.get("pads", [0] * (2 * rank)),
        dilation=attributes.get("dilations", [1] * rank),
        groups=attributes.get("group", 1),
    )
    return walk.only(node) * sigma


def _batch_norm(walk: Walk, node: NodeProto) -> float:
    if attributes_of(node).get("training_mode", 0):
        raise Unprovable("BatchNormalization in training mode")
    scale, _, _, variance = (walk.constant(name) for name in node.input[1:5])
    return walk.only(node) * float(np.abs(scale / np.sqrt(variance + attributes_of(node).get("epsilon", 1e-5))).max())


def _overlap(node: NodeProto) -> tuple[int, int]:
    """Return in how many windows a value can be at most, and the size of a window."""
    attributes = attributes_of(node)
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    if any(d != 1 for d in attributes.get("dilations", [])):
        raise Unprovable("pooling with dilation")
    return math.prod(math.ceil(k / s) for k, s in zip(kernel, strides, strict=True)), math.prod(kernel)


def _max_pool(walk: Walk, node: NodeProto) -> float:
    return walk.only(node) * math.sqrt(_overlap(node)[0])


def _average_pool(walk: Walk, node: NodeProto) -> float:
    attributes = attributes_of(node)
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unprovable("AveragePool with auto_pad")
    if (any(attributes.get("pads", [])) and not attributes.get("count_include_pad", 0)) or attributes.get(
        "ceil_mode", 0
    ):
        raise Unprovable("AveragePool whose windows shrink at the border")
    overlap, window = _overlap(node)
    return walk.only(node) * math.sqrt(overlap / window)


def _global_average(walk: Walk, node: NodeProto) -> float:
    return walk.only(node) / math.sqrt(math.prod(walk.shape(node.input[0])[2:]))


def _pair(walk: Walk, node: NodeProto) -> float:
    """Rule for Max or Min: the root of the sum of the squared bounds; for a single live input, that is its bound."""
    if any(walk.shape(name) != walk.shape(node.output[0]) for name in node.input if name in walk.bounds):
        raise Unprovable(f"{node.op_type} that copies values by broadcasting")
    return math.hypot(*walk.live(node))


def _concat(walk: Walk, node: NodeProto) -> float:
    """Rule for Concat, with a tighter one for MaxMin (Anil, Lucas and Grosse, arXiv 1811.05381).

    MaxMin splits a tensor and sorts pairs of values, so the output has the bound of that tensor.
    """
    pairs = [walk.producer.get(name) for name in node.input]
    if len(pairs) == 2 and all(pairs):
        first, second = pairs
        assert first is not None
        assert second is not None
        halves = list(first.input)
        split = walk.producer.get(halves[0]) if halves else None
        if (
            {first.op_type, second.op_type} == {"Max", "Min"}
            and sorted(first.input) == sorted(second.input)
            and len(set(halves)) == 2
            and split is not None
            and split.op_type == "Split"
            and sorted(split.output) == sorted(halves)
        ):
            return walk.bounds[split.input[0]]
    return math.hypot(*walk.live(node))


SHAPE_ARITHMETIC = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Gather",
        "Mul",
        "Shape",
        "Slice",
        "Squeeze",
        "Sub",
        "Unsqueeze",
    }
)
"""Operators allowed on tensors that do not depend on the image, such as shapes: deterministic, no hidden inputs."""

RULES: dict[str, Callable[[Walk, NodeProto], float]] = {
    # elementwise and 1-Lipschitz, or a reordering
    "Abs": _same,
    "Clip": _same,
    "Flatten": _same,
    "Identity": _same,
    "Neg": _same,
    "Relu": _same,
    "Reshape": _same,
    "Split": _same,
    "Squeeze": _same,
    "Tanh": _same,
    "Transpose": _same,
    "Unsqueeze": _same,
    # arithmetic
    "Add": _add,
    "Sub": _add,
    "Mul": _scale,
    "Div": _scale,
    "Max": _pair,
    "Min": _pair,
    "Concat": _concat,
    # layers
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Gemm": _linear,
    "GlobalAveragePool": _global_average,
    "MatMul": _linear,
    "MaxPool": _max_pool,
    # other activations
    "PRelu": _prelu,
    **dict.fromkeys(STEEPEST, _activation),
}
