"""Build the ONNX graph with which ONNX Runtime bounds a classifier's margins by interval arithmetic while serving.

Gowal et al., "On the Effectiveness of Interval Bound Propagation", arXiv 1810.12715. Each tensor becomes two: its lower
and upper end if it cannot be negative (pixels, outputs of a ReLU), else a centre and a radius. All is computed in
float32, and the intervals are widened by its rounding error: a sum of n products is within gamma_n = n u / (1 - n u) of
the exact one, relative to the sum of absolute values (Higham, "Accuracy and Stability of Numerical Algorithms", section
3.1), here four times that, to cover the few operations around it; the relative error of a single sum or difference is
at most u.
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
ROUNDING = 2.0**-20
"""Bound of the relative error of a few consecutive float32 operations."""

PLAIN_GEMM = {"transA": 0, "transB": 1, "alpha": 1.0, "beta": 1.0}


def gamma(terms: int) -> float:
    """Return a bound of the relative error of a float32 sum of ``terms`` products."""
    return 2 * float(np.finfo(np.float32).eps) * (terms + 10)


def interval_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph that bounds by how much each logit can exceed the label's within an Linf distance of an image.

    Its inputs are images x (B, C, H, W) in [0, 1], distances EPS (B, 1, 1, 1) and labels LABEL (B,); its output is
    WORST (B, K), upper bounds, meaningless for the label itself. ``model`` must have been read by
    ``gauntlet.artifacts.onnx_file``. Raises Unprovable if a node has no rule.
    """
    original = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in original.initializer}
    (x,) = (value for value in original.input if value.name not in weights)
    graph = _Graph(weights)
    graph.ranges[x.name] = _pixels(graph, x.name)
    *body, head = original.node
    for node in body:
        if node.op_type not in RULES:
            raise Unprovable(f"there is no rule for {node.op_type}")
        graph.ranges[node.output[0]] = RULES[node.op_type](graph, node)
    classes = _head(graph, head)
    inputs = [
        x,
        helper.make_tensor_value_info(EPS, TensorProto.FLOAT, ["batch", 1, 1, 1]),
        helper.make_tensor_value_info(LABEL, TensorProto.INT64, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info(WORST, TensorProto.FLOAT, ["batch", classes])]
    used = {name for node in graph.nodes for name in node.input}
    constants = [numpy_helper.from_array(value, name) for name, value in graph.weights.items() if name in used]
    bounding = helper.make_graph(graph.nodes, "intervals", inputs, outputs, constants)
    return helper.make_model(bounding, opset_imports=model.opset_import, ir_version=model.ir_version)


class Box(NamedTuple):
    """Names of the tensors with the centre and the radius of a range."""

    centre: str
    radius: str


class Ends(NamedTuple):
    """Names of the tensors with the ends of a range: not negative, each with a relative error of at most ROUNDING."""

    low: str
    high: str


@dataclass
class _Graph:
    """The graph built so far."""

    weights: dict[str, NDArray[Any]]
    nodes: list[NodeProto] = field(default_factory=list)
    ranges: dict[str, Box | Ends] = field(default_factory=dict)  # by the name of the tensor in the original graph

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

    def range_of(self, node: NodeProto) -> Box | Ends:
        """Return the range of the node's first input."""
        if node.input[0] not in self.ranges:
            raise Unprovable(f"{node.op_type} of a constant")
        return self.ranges[node.input[0]]

    def doubled(self, node: NodeProto, error: float) -> tuple[str, str]:
        """Return twice the centre and twice the radius of the first input.

        The radius is widened for a relative error of the centre of at most ``error``.
        """
        match self.range_of(node):
            case Ends(low, high):
                grown, shrunk = self.scaled(high, 1 + error + 2 * ROUNDING), self.scaled(low, 1 - error - 2 * ROUNDING)
                return self.add("Add", low, high), self.add("Sub", grown, shrunk)
            case Box(centre, radius):
                size = self.scaled(self.add("Abs", centre), 2 * error)
                return self.scaled(centre, 2), self.add("Add", self.scaled(radius, 2 + ROUNDING), size)

    def box(self, node: NodeProto) -> Box:
        """Return the range of the first input as a centre and a radius."""
        centre, radius = self.doubled(node, ROUNDING)
        return Box(self.scaled(centre, 0.5), self.scaled(radius, 0.5))

    def value(self, node: NodeProto, place: int) -> NDArray[Any]:
        """Return the constant that is input ``place`` of a node."""
        if len(node.input) <= place or node.input[place] not in self.weights:
            raise Unprovable(f"{node.op_type} without a constant")
        return self.weights[node.input[place]]


def _pixels(graph: _Graph, x: str) -> Ends:
    """Return the range of the pixels: within eps of x, clipped to [0, 1]."""
    low = graph.add("Max", graph.add("Sub", x, EPS), graph.constant(0))
    return Ends(low, graph.add("Min", graph.add("Add", x, EPS), graph.constant(1)))


def _shift(graph: _Graph, node: NodeProto) -> Box:
    """Rule for adding or subtracting a constant."""
    centre, radius = graph.box(node)
    graph.value(node, 1)
    moved = graph.add(node.op_type, centre, node.input[1])
    return Box(moved, _widened(graph, moved, radius))


def _scale(graph: _Graph, node: NodeProto) -> Box:
    """Rule for multiplying or dividing by a constant."""
    centre, radius = graph.box(node)
    factor = graph.constant(np.abs(graph.value(node, 1)))
    scaled = graph.add(node.op_type, centre, node.input[1])
    return Box(scaled, _widened(graph, scaled, graph.add(node.op_type, radius, factor)))


def _widened(graph: _Graph, centre: str, radius: str) -> str:
    """Return the radius, widened for the rounding of the last operations on the centre and on the radius."""
    return graph.add("Add", graph.scaled(radius, 1 + ROUNDING), graph.scaled(graph.add("Abs", centre), ROUNDING))


def _relu(graph: _Graph, node: NodeProto) -> Ends:
    match graph.range_of(node):
        case Ends() as ends:
            return ends
        case Box(centre, radius):
            low, high = (graph.add("Relu", graph.add(operator, centre, radius)) for operator in ("Sub", "Add"))
            return Ends(low, high)


def _reshape(graph: _Graph, node: NodeProto) -> Box | Ends:
    attributes, given = attributes_of(node), graph.range_of(node)
    return type(given)(*(graph.add(node.op_type, part, *node.input[1:], **attributes) for part in given))


def _weighted(graph: _Graph, node: NodeProto) -> Box:
    """Rule for a convolution or a dense layer."""
    attributes, weight = attributes_of(node), graph.value(node, 1)
    if node.op_type == "Gemm" and PLAIN_GEMM | attributes != PLAIN_GEMM:
        raise Unprovable("Gemm of another form than x W^T + b")
    error = gamma(math.prod(weight.shape[1:]))
    centre, radius = graph.doubled(node, error)
    half, size = graph.constant(weight / 2), graph.constant(np.abs(weight) / 2 * (1 + 2 * error))
    biases: tuple[list[str], list[str]] = [], []
    if len(node.input) > 2:
        biases = [node.input[2]], [graph.constant(2 * error * np.abs(graph.value(node, 2)))]
    return Box(
        graph.add(node.op_type, centre, half, *biases[0], **attributes),
        graph.add(node.op_type, radius, size, *biases[1], **attributes),
    )


def _head(graph: _Graph, node: NodeProto) -> int:
    """Add the last layer, merged with the differences of logits: tighter than bounds of the logits themselves.

    Return the number of classes.
    """
    if node.op_type != "Gemm" or PLAIN_GEMM | attributes_of(node) != PLAIN_GEMM:
        raise Unprovable("the last layer is not a dense layer")
    weight, bias, axes = graph.value(node, 1), graph.value(node, 2), graph.constant([1], np.int64)
    error, last = gamma(weight.shape[1]), graph.constant([2], np.int64)
    rows = graph.add("Unsqueeze", graph.add("Gather", node.input[1], LABEL, axis=0), axes)  # (B, 1, features)
    differences = graph.add("Sub", node.input[1], rows)  # (B, K, features)
    parts = (graph.add("Unsqueeze", part, last) for part in graph.doubled(node, error))
    matrices = differences, graph.add("Abs", differences)
    products = (graph.add("Squeeze", graph.add("MatMul", *pair), last) for pair in zip(matrices, parts, strict=True))
    centre, radius = (graph.scaled(part, 0.5) for part in products)  # (B, K)
    radius = graph.scaled(radius, 1 + 2 * error)
    own = graph.add("Unsqueeze", graph.add("Gather", node.input[2], LABEL, axis=0), axes)  # (B, 1)
    rest = graph.add("Sub", node.input[2], own)  # (B, K)
    total = graph.add("Add", graph.add("Add", centre, radius), rest)
    sizes = graph.add("Add", graph.add("Add", graph.add("Abs", centre), radius), graph.add("Abs", rest))
    slack = graph.add("Add", graph.scaled(sizes, ROUNDING), graph.constant(ROUNDING * float(np.abs(bias).max())))
    graph.add("Add", total, slack, name=WORST)
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
