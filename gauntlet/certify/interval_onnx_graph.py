"""The ONNX graph that bounds a classifier's margins by interval arithmetic, so that ONNX Runtime proves as it serves.

Gowal et al., "On the Effectiveness of Interval Bound Propagation", arXiv 1810.12715. Each tensor becomes two: its ends
where it cannot be negative (pixels, what a ReLU gives), else a centre and a radius. All is computed in float32, and the
intervals grow by what that can be off: a sum of n products is within gamma_n = n u / (1 - n u) of the exact one,
relative to the sum of absolute values (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1), here
with a factor of four for what is computed around it; a single sum or difference is within u of itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from gauntlet.certify.graph_walk import Unprovable, attributes_of

EPS, LABEL, WORST = "interval.eps", "interval.label", "interval.worst"
FEW = 2.0**-20
"""Relative error of a few float32 operations in a row."""

PLAIN_GEMM = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}


def gamma(terms: int) -> float:
    """Relative error of a float32 sum of so many products."""
    return 2 * float(np.finfo(np.float32).eps) * (terms + 10)


def interval_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Images x (B, C, H, W) of [0, 1], Linf distances (B, 1, 1, 1) and labels (B,) to (B, K): how far each class can
    rise above the label's within the distance, at most; for the label itself the number means nothing.

    ``model`` is as ``gauntlet.artifacts.onnx_file`` reads it. Raises Unprovable where a node has no rule.
    """
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (x,) = (value for value in graph.input if value.name not in weights)
    made = _Graph(weights)
    made.made[x.name] = _pixels(made, x.name)
    *body, head = graph.node
    for node in body:
        if node.op_type not in RULES:
            raise Unprovable(f"there is no rule for {node.op_type}")
        made.made[node.output[0]] = RULES[node.op_type](made, node)
    classes = _head(made, head)
    inputs = [
        x,
        helper.make_tensor_value_info(EPS, TensorProto.FLOAT, ["batch", 1, 1, 1]),
        helper.make_tensor_value_info(LABEL, TensorProto.INT64, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info(WORST, TensorProto.FLOAT, ["batch", classes])]
    used = {name for node in made.nodes for name in node.input}
    kept = [numpy_helper.from_array(value, name) for name, value in made.weights.items() if name in used]
    bounding = helper.make_graph(made.nodes, "intervals", inputs, outputs, kept)
    return helper.make_model(bounding, opset_imports=model.opset_import, ir_version=model.ir_version)


class Box(NamedTuple):
    """Names of a centre and a radius."""

    centre: str
    radius: str


class Ends(NamedTuple):
    """Names of two ends, neither below zero, each within FEW of itself of what it stands for."""

    low: str
    high: str


@dataclass
class _Graph:
    """What is made so far."""

    weights: dict[str, NDArray[Any]]
    nodes: list[NodeProto] = field(default_factory=list)
    made: dict[str, Box | Ends] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        output = name or f"interval.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"interval.constant.{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def scaled(self, name: str, factor: float) -> str:
        return self.add("Mul", name, self.constant(factor))

    def found(self, node: NodeProto) -> Box | Ends:
        """Of the first input."""
        if node.input[0] not in self.made:
            raise Unprovable(f"{node.op_type} of a constant")
        return self.made[node.input[0]]

    def doubled(self, node: NodeProto, error: float) -> tuple[str, str]:
        """Twice the centre of the first input, and twice a radius that allows for this relative error of the centre."""
        match self.found(node):
            case Ends(low, high):
                grown, shrunk = self.scaled(high, 1 + error + 2 * FEW), self.scaled(low, 1 - error - 2 * FEW)
                return self.add("Add", low, high), self.add("Sub", grown, shrunk)
            case Box(centre, radius):
                size = self.scaled(self.add("Abs", centre), 2 * error)
                return self.scaled(centre, 2), self.add("Add", self.scaled(radius, 2 + FEW), size)

    def box(self, node: NodeProto) -> Box:
        """Of the first input."""
        centre, radius = self.doubled(node, FEW)
        return Box(self.scaled(centre, 0.5), self.scaled(radius, 0.5))

    def value(self, node: NodeProto, place: int) -> NDArray[Any]:
        """A constant input."""
        if len(node.input) <= place or node.input[place] not in self.weights:
            raise Unprovable(f"{node.op_type} without a constant")
        return self.weights[node.input[place]]


def _pixels(made: _Graph, x: str) -> Ends:
    """Those of [0, 1] within eps."""
    low = made.add("Max", made.add("Sub", x, EPS), made.constant(0))
    return Ends(low, made.add("Min", made.add("Add", x, EPS), made.constant(1)))


def _shift(made: _Graph, node: NodeProto) -> Box:
    """A constant added or subtracted."""
    centre, radius = made.box(node)
    made.value(node, 1)
    moved = made.add(node.op_type, centre, node.input[1])
    return Box(moved, _widened(made, moved, radius))


def _scale(made: _Graph, node: NodeProto) -> Box:
    """Times, or divided by, a constant."""
    centre, radius = made.box(node)
    factor = made.constant(np.abs(made.value(node, 1)))
    scaled = made.add(node.op_type, centre, node.input[1])
    return Box(scaled, _widened(made, scaled, made.add(node.op_type, radius, factor)))


def _widened(made: _Graph, centre: str, radius: str) -> str:
    """A radius that allows for rounding in the last steps of both."""
    return made.add("Add", made.scaled(radius, 1 + FEW), made.scaled(made.add("Abs", centre), FEW))


def _relu(made: _Graph, node: NodeProto) -> Ends:
    match made.found(node):
        case Ends() as ends:
            return ends
        case Box(centre, radius):
            low, high = (made.add("Relu", made.add(operator, centre, radius)) for operator in ("Sub", "Add"))
            return Ends(low, high)


def _reshape(made: _Graph, node: NodeProto) -> Box | Ends:
    attributes, found = attributes_of(node), made.found(node)
    return type(found)(*(made.add(node.op_type, part, *node.input[1:], **attributes) for part in found))


def _weighted(made: _Graph, node: NodeProto) -> Box:
    """A convolution, or a dense layer."""
    attributes, weight = attributes_of(node), made.value(node, 1)
    if node.op_type == "Gemm" and PLAIN_GEMM | attributes != PLAIN_GEMM:
        raise Unprovable("Gemm other than x W' + b")
    error = gamma(math.prod(weight.shape[1:]))
    centre, radius = made.doubled(node, error)
    half, size = made.constant(weight / 2), made.constant(np.abs(weight) / 2 * (1 + 2 * error))
    biases: tuple[list[str], list[str]] = [], []
    if len(node.input) > 2:
        biases = [node.input[2]], [made.constant(2 * error * np.abs(made.value(node, 2)))]
    return Box(
        made.add(node.op_type, centre, half, *biases[0], **attributes),
        made.add(node.op_type, radius, size, *biases[1], **attributes),
    )


def _head(made: _Graph, node: NodeProto) -> int:
    """The last layer, merged with the differences of its rows: tighter than bounds of logits. The number of classes."""
    if node.op_type != "Gemm" or PLAIN_GEMM | attributes_of(node) != PLAIN_GEMM:
        raise Unprovable("the last layer is no dense one")
    weight, bias, axes = made.value(node, 1), made.value(node, 2), made.constant([1], np.int64)
    error, last = gamma(weight.shape[1]), made.constant([2], np.int64)
    rows = made.add("Unsqueeze", made.add("Gather", node.input[1], LABEL, axis=0), axes)  # (B, 1, features)
    differences = made.add("Sub", node.input[1], rows)  # (B, K, features)
    parts = (made.add("Unsqueeze", part, last) for part in made.doubled(node, error))
    matrices = differences, made.add("Abs", differences)
    found = (made.add("Squeeze", made.add("MatMul", *pair), last) for pair in zip(matrices, parts, strict=True))
    centre, radius = (made.scaled(part, 0.5) for part in found)  # (B, K)
    radius = made.scaled(radius, 1 + 2 * error)
    own = made.add("Unsqueeze", made.add("Gather", node.input[2], LABEL, axis=0), axes)  # (B, 1)
    rest = made.add("Sub", node.input[2], own)  # (B, K)
    total = made.add("Add", made.add("Add", centre, radius), rest)
    sizes = made.add("Add", made.add("Add", made.add("Abs", centre), radius), made.add("Abs", rest))
    slack = made.add("Add", made.scaled(sizes, FEW), made.constant(FEW * float(np.abs(bias).max())))
    made.add("Add", total, slack, name=WORST)
    return int(weight.shape[0])


RULES: Mapping[str, Callable[[_Graph, NodeProto], Box | Ends]] = {
    "Add": _shift,
    "Conv": _weighted,
    "Div": _scale,
    "Flatten": _reshape,
    "Gemm": _weighted,
    "Mul": _scale,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sub": _shift,
}
