"""Certificates proved from the exported file: a walk of the ONNX graph in float64, from its weights alone.

Every tensor gets a bound on how fast it can change with the image, in the L2 norm of one flattened sample. Linear
layers contribute their spectral norm (gauntlet.spectral), known structures their known constant; a node without a
rule ends the proof. What a manifest says counts for nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor

from gauntlet import graph, spectral
from gauntlet.activations import STEEPEST

Array = NDArray[np.float64]

ROUNDING = 1e-5
"""A served float32 logit is taken to lie within this times max |logit| of its exact value, or within
``Certificate.rounding`` if that is more. The margin loses four times that: two logits, at the clean and at the
perturbed image."""


@dataclass(frozen=True)
class Certificate:
    """A proved bound: ``pairwise[t, j]`` bounds the L2 Lipschitz constant of z_t - z_j. None: nothing is proved."""

    lipschitz: float | None
    pairwise: Tensor | None  # (K, K) float64
    reason: str
    rounding: float = 0.0  # absolute error of a logit, measured against float64 when the model is opened

    norm = "l2"
    method = "lipschitz"

    def radius(self, logits: Tensor) -> Tensor | None:
        """Logits (B, K) to L2 radii (B,), float64, in pixels of [0, 1]: the class cannot change within them."""
        if self.pairwise is None:
            return None
        z = logits.double().cpu()
        top = z.argmax(dim=1)
        slack = (ROUNDING * z.abs().amax(dim=1, keepdim=True)).clamp_min(self.rounding)
        gap = z.gather(1, top[:, None]) - z - 4 * slack
        radii = gap / self.pairwise[top].clamp_min(1e-300)
        return radii.scatter(1, top[:, None], torch.inf).amin(dim=1).clamp_min(0)


class Unprovable(Exception):
    """The graph holds something that the prover has no rule for."""


def prove(path: Path) -> Certificate:
    """Prove what can be proved about the classifier in an ONNX file: image (B, C, H, W) to logits (B, K)."""
    try:
        model = graph.read(path)
        onnx.checker.check_model(model)  # sorted, with known operators and valid attributes: the rules rely on it
        return _Walk(model).certificate()
    except (Unprovable, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return Certificate(None, None, f"no certificate: {error}")


class _Walk:
    """The graph at batch size one: constants, shapes, and a bound per tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, NDArray[np.generic]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        inputs = [value for value in model.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(model.graph.output) != 1:
            raise Unprovable("the graph must have one input and one output")
        self.output = model.graph.output[0].name
        self.shapes = _shapes_at_batch_one(model, inputs[0].name)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.bounds: dict[str, float] = {inputs[0].name: 1.0}

    def certificate(self) -> Certificate:
        for node in self.nodes:
            if node.domain not in ("", "ai.onnx") or any(part.type == part.GRAPH for part in node.attribute):
                raise Unprovable(f"{node.domain} {node.op_type} is no plain ONNX operator")
            if node.op_type == "Constant":
                self.constants[node.output[0]] = np.asarray(_constant(node))
            elif node.op_type != "Shape" and any(name in self.bounds for name in node.input):
                self._bind(node)
            elif node.op_type not in SHAPE_ARITHMETIC:  # these are the same for every image; no rule reads them
                raise Unprovable(f"there is no rule for {node.op_type}")
        if self.output not in self.bounds:
            raise Unprovable("the output does not depend on the input")
        total = self.bounds[self.output]
        if not math.isfinite(total):
            raise Unprovable("the bound is not finite")
        return Certificate(total, self._pairwise(total), "proved from the graph's weights")

    def _bind(self, node: NodeProto) -> None:
        rule = RULES.get(node.op_type)
        if rule is None or (len(node.output) > 1 and node.op_type != "Split"):
            raise Unprovable(f"there is no rule for {node.op_type} (node {node.name or node.output[0]})")
        bound = rule(self, node)
        for name in node.output:
            self.bounds[name] = bound

    def _pairwise(self, total: float) -> Tensor:
        """z_t - z_j through a linear head changes by ||w_t - w_j|| only; else by sqrt 2 times the whole bound."""
        node = self.producer[self.output]
        live = [name for name in node.input if name in self.bounds]
        if node.op_type == "Add" and len(live) == 1:  # the head's bias
            node = self.producer.get(live[0], node)
        classes = self.shape(self.output)[-1]
        if node.op_type not in ("Gemm", "MatMul") or len(self.shape(node.input[0])) != 2:
            return torch.full((classes, classes), math.sqrt(2) * total, dtype=torch.float64)
        rows = torch.from_numpy(self.matrix(node))  # (K, D)
        differences = (rows[:, None] - rows[None]).norm(dim=2)
        return differences * self.bounds[node.input[0]] * spectral.ROUND_UP

    # What the rules ask of the walk

    def live(self, node: NodeProto) -> list[float]:
        """Bounds of the inputs that depend on the image."""
        return [self.bounds[name] for name in node.input if name in self.bounds]

    def only(self, node: NodeProto) -> float:
        """The bound of the first input, when no other depends on the image."""
        if node.input[0] not in self.bounds or len(self.live(node)) != 1:
            raise Unprovable(f"{node.op_type} of two variables")
        return self.bounds[node.input[0]]

    def constant(self, name: str) -> Array:
        if name not in self.constants:
            raise Unprovable(f"{name} is not a constant")
        return self.constants[name].astype(np.float64)

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise Unprovable(f"the shape of {name} is unknown")
        return self.shapes[name]

    def matrix(self, node: NodeProto) -> Array:
        """The (out, in) matrix of a Gemm or of a MatMul with a constant on the right, alpha included."""
        weight = self.constant(node.input[1])
        if weight.ndim != 2:
            raise Unprovable(f"{node.op_type} with a weight of {weight.ndim} dimensions")
        if node.op_type == "MatMul":
            return weight.T
        attributes = _attributes(node)
        if attributes.get("transA", 0):
            raise Unprovable("Gemm with transA")
        oriented = weight if attributes.get("transB", 0) else weight.T
        return oriented * float(attributes.get("alpha", 1.0))


def _same(walk: _Walk, node: NodeProto) -> float:
    """Elementwise 1-Lipschitz, or a reordering of the values."""
    return walk.only(node)


def _activation(walk: _Walk, node: NodeProto) -> float:
    return walk.only(node) * STEEPEST[node.op_type](_attributes(node))


def _prelu(walk: _Walk, node: NodeProto) -> float:
    return walk.only(node) * max(1.0, float(np.abs(walk.constant(node.input[1])).max()))


def _add(walk: _Walk, node: NodeProto) -> float:
    if any(walk.shape(name) != walk.shape(node.output[0]) for name in node.input if name in walk.bounds):
        raise Unprovable(f"{node.op_type} that copies values by broadcasting")
    return sum(walk.live(node))


def _scale(walk: _Walk, node: NodeProto) -> float:
    factors = [walk.constant(name) for name in node.input if name not in walk.bounds]
    variable = next(name for name in node.input if name in walk.bounds)
    if len(factors) != 1 or walk.shape(variable) != walk.shape(node.output[0]):
        raise Unprovable(f"{node.op_type} that is no scaling by a constant")
    if node.op_type == "Div":
        if variable != node.input[0]:
            raise Unprovable("Div by a variable")
        factors = [1 / factors[0]]
    return walk.bounds[variable] * float(np.abs(factors[0]).max())


def _linear(walk: _Walk, node: NodeProto) -> float:
    return walk.only(node) * spectral.dense(walk.matrix(node))


def _conv(walk: _Walk, node: NodeProto) -> float:
    attributes = _attributes(node)
    kernel = walk.constant(node.input[1])  # (out, in / groups, *k)
    rank = kernel.ndim - 2
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unprovable("Conv with auto_pad")
    sigma = spectral.convolution(
        kernel,
        size=walk.shape(node.input[0])[2:],
        stride=attributes.get("strides", [1] * rank),
        padding=attributes.get("pads", [0] * (2 * rank)),
        dilation=attributes.get("dilations", [1] * rank),
        groups=attributes.get("group", 1),
    )
    return walk.only(node) * sigma


def _batch_norm(walk: _Walk, node: NodeProto) -> float:
    if _attributes(node).get("training_mode", 0):
        raise Unprovable("BatchNormalization in training mode")
    scale, _, _, variance = (walk.constant(name) for name in node.input[1:5])
    return walk.only(node) * float(np.abs(scale / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))).max())


def _overlap(node: NodeProto) -> tuple[int, int]:
    """In how many windows a value can be at most, and the size of a window."""
    attributes = _attributes(node)
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    if any(d != 1 for d in attributes.get("dilations", [])):
        raise Unprovable("pooling with dilation")
    return math.prod(math.ceil(k / s) for k, s in zip(kernel, strides, strict=True)), math.prod(kernel)


def _max_pool(walk: _Walk, node: NodeProto) -> float:
    return walk.only(node) * math.sqrt(_overlap(node)[0])


def _average_pool(walk: _Walk, node: NodeProto) -> float:
    attributes = _attributes(node)
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise Unprovable("AveragePool with auto_pad")
    if (any(attributes.get("pads", [])) and not attributes.get("count_include_pad", 0)) or attributes.get(
        "ceil_mode", 0
    ):
        raise Unprovable("AveragePool whose windows shrink at the border")
    overlap, window = _overlap(node)
    return walk.only(node) * math.sqrt(overlap / window)


def _global_average(walk: _Walk, node: NodeProto) -> float:
    return walk.only(node) / math.sqrt(math.prod(walk.shape(node.input[0])[2:]))


def _pair(walk: _Walk, node: NodeProto) -> float:
    """Max or Min of several: at most the root of the sum of squares; one live input keeps its bound."""
    if any(walk.shape(name) != walk.shape(node.output[0]) for name in node.input if name in walk.bounds):
        raise Unprovable(f"{node.op_type} that copies values by broadcasting")
    return math.hypot(*walk.live(node))


def _concat(walk: _Walk, node: NodeProto) -> float:
    """MaxMin (Anil, Lucas and Grosse, arXiv 1811.05381) sorts pairs of values: it keeps the bound of what was split."""
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
"""Operators that may compute on shapes, apart from the image: deterministic, without hidden inputs."""

RULES: dict[str, Callable[[_Walk, NodeProto], float]] = {
    # one to one, none steeper than 45 degrees, or a reordering
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


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant(node: NodeProto) -> Any:
    (value,) = _attributes(node).values()
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _shapes_at_batch_one(model: onnx.ModelProto, name: str) -> dict[str, tuple[int, ...]]:
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in (*single.graph.input, *single.graph.output):
        if value.name == name or value in single.graph.output:
            dim = value.type.tensor_type.shape.dim
            if len(dim) and not dim[0].dim_value:
                dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes
