"""Helpers for ONNX graphs: look up nodes and constants, and rewrite a few nodes in place."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from gauntlet.artifacts import onnx_skeleton
from gauntlet.onnx_import.large_weights import LargeWeights

Constant = NDArray[np.generic]
Dims = list[int | None]  # None: left open

ML = "ai.onnx.ml"
RECURRENT = {
    "RNN": ((5,), (b"Tanh",)),
    "GRU": ((5,), (b"Sigmoid", b"Tanh")),
    "LSTM": ((5, 6), (b"Sigmoid", b"Tanh", b"Tanh")),
}
"""Places of the initial states among the inputs, and the default activations."""
WIDER = dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE), TensorProto.FLOAT)


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """Return the node that computes each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: GraphProto, name: str) -> list[NodeProto]:
    """Return the nodes that read a tensor."""
    return [node for node in graph.node if name in node.input]


def constants(graph: GraphProto) -> dict[str, Constant]:
    """Return constants by name: weights that are not in a file of LargeWeights, and tensors of Constant nodes."""
    found = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
    }
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def attributes(node: NodeProto) -> dict[str, object]:
    """Return the attributes of a node by name, as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def dims(value: ValueInfoProto) -> Dims:
    """Return the sizes of a tensor, None for each that is not known."""
    shape = value.type.tensor_type.shape
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in shape.dim]


def inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs of the graph that are not weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def replace_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Make ``nodes`` the nodes of the graph."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # nodes may belong to the graph
    del graph.node[:]
    graph.node.extend(copies)


def rename_input(graph: GraphProto, old: str, new: str) -> None:
    """Make every node and graph output that reads the tensor ``old`` read ``new``."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
    for value in graph.output:
        if value.name == old:
            value.name = new


def free_names(graph: GraphProto, prefix: str) -> None:
    """Rename every tensor whose name begins with ``prefix``: the graph may have been converted by Gauntlet before."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name.startswith(prefix):
                    names[i] = f"file.{name}"
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if value.name.startswith(prefix):
            value.name = f"file.{value.name}"


def prune(graph: GraphProto) -> None:
    """Remove nodes, weights and inputs that no output depends on, and all value_info."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    replace_nodes(graph, kept[::-1])
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    read = [value for value in graph.input if value.name in needed]
    del graph.input[:]
    graph.input.extend(read)
    del graph.value_info[:]


def constant(graph: GraphProto, name: str, value: NDArray[np.generic]) -> str:
    """Add a weight to the graph and return its name."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def kinds(model: ModelProto) -> set[int]:
    """Return the TensorProto data types that occur in a graph: of inputs, outputs, weights, constants and casts."""
    graph = model.graph
    found = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    found |= {tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found.add(attribute.t.data_type)
            elif attribute.name in ("to", "dtype"):
                found.add(attribute.i)
    return found


def widen(model: ModelProto, weights: LargeWeights) -> None:
    """Change float16, bfloat16 and float64 to float32 in the whole graph, in place."""
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type in WIDER:
            weights.widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in WIDER:
                weights.widen(attribute.t)
            if attribute.name in ("to", "dtype") and attribute.i in WIDER:
                attribute.i = WIDER[attribute.i]
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        kind.elem_type = WIDER.get(kind.elem_type, kind.elem_type)


def _remove_attribute(node: NodeProto, name: str) -> None:
    for attribute in [attribute for attribute in node.attribute if attribute.name == name]:
        node.attribute.remove(attribute)


def drop_idle(model: ModelProto) -> None:
    """Remove Casts from float32 to float32, Identity, and Dropout, which does nothing in a served model."""
    inferred = onnx_skeleton.infer_shapes(model)
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.value_info, *inferred.output)}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    graph = model.graph
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0) == 0:
            _remove_attribute(node, "training_mode")  # 0 is the default; onnx2pytorch does not know the attribute
        float_cast = (
            node.op_type == "Cast"
            and types.get(node.input[0]) == TensorProto.FLOAT
            and attributes(node)["to"] == TensorProto.FLOAT
        )
        lone = sum(bool(name) for name in node.output) == 1 and len([name for name in node.input if name]) == 1
        idle = float_cast or (node.op_type in ("Identity", "Dropout") and lone)
        if idle and node.output[0] not in outputs:
            rename_input(graph, node.output[0], node.input[0])
            graph.node.remove(node)


def drop_recurrent_defaults(graph: GraphProto) -> None:
    """Remove what recurrent layers do anyway: initial states of zero, and the usual activations.

    onnx2pytorch supports nothing else and refuses both where they are written down. Exporters write the states for the
    batch size of the example image, so without them the batch size can be left open.
    """
    known = constants(graph)
    for node in graph.node:
        places, activations = RECURRENT.get(node.op_type, ((), ()))
        for place in places:
            name = node.input[place] if place < len(node.input) else ""
            if name in known and not known[name].any():
                node.input[place] = ""
        written = attributes(node).get("activations", ())
        if places and written in (list(activations), list(2 * activations)):  # one set for each direction
            _remove_attribute(node, "activations")


def plain_operators(model: ModelProto, opset: int) -> None:
    """Replace LinearClassifier, Normalizer and Scaler of ai.onnx.ml by differentiable standard operators."""
    graph = model.graph
    nodes: list[NodeProto] = []
    softmaxes: set[str] = set()
    for node in graph.node:
        given = attributes(node)
        finish = given.get("post_transform", b"")
        if node.op_type == "Softmax" or (node.op_type == "LinearClassifier" and finish == b"SOFTMAX"):
            softmaxes.add(node.output[-1])
        if node.domain == ML and node.op_type == "Scaler":
            nodes += _scaler(graph, node, given)
        elif node.domain == ML and node.op_type == "LinearClassifier" and not consumers(graph, node.output[0]):
            nodes += _linear_classifier(graph, node, given) or [node]
        elif node.domain == ML and node.op_type == "Normalizer" and given.get("norm", b"MAX") == b"L1":
            nodes += _normalizer(node, opset, idle=node.input[0] in softmaxes)
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)


def _normalizer(node: NodeProto, opset: int, idle: bool) -> list[NodeProto]:
    """Return nodes that divide by the L1 norm; an Identity if ``idle``, that is, after a softmax, which sums to one."""
    if idle:
        return [helper.make_node("Identity", node.input, node.output)]
    name, (values,) = f"gauntlet.{node.output[0]}", node.input
    divide = helper.make_node("Div", [values, f"{name}.sum"], node.output)
    if opset < 18:
        return [helper.make_node("ReduceL1", [values], [f"{name}.sum"], axes=[1], keepdims=1), divide]
    axes = helper.make_node("Constant", [], [f"{name}.axes"], value_ints=[1])
    return [axes, helper.make_node("ReduceL1", [values, f"{name}.axes"], [f"{name}.sum"], keepdims=1), divide]


def _scaler(graph: GraphProto, node: NodeProto, given: Mapping[str, object]) -> list[NodeProto]:
    name = f"gauntlet.{node.output[0]}"
    offset = constant(graph, f"{name}.offset", np.asarray(given.get("offset", [0.0]), np.float32))
    scale = constant(graph, f"{name}.scale", np.asarray(given.get("scale", [1.0]), np.float32))
    return [
        helper.make_node("Sub", [node.input[0], offset], [f"{name}.centred"]),
        helper.make_node("Mul", [f"{name}.centred", scale], [node.output[0]]),
    ]


def _linear_classifier(graph: GraphProto, node: NodeProto, given: Mapping[str, object]) -> list[NodeProto]:
    """Return nodes for its scores; none if it is not just a product, a sum and an optional softmax or sigmoid."""
    finish = {b"NONE": "", b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}.get(given.get("post_transform", b"NONE"))  # type: ignore[call-overload]
    intercepts = np.asarray(given.get("intercepts", []), np.float32)
    weights = np.asarray(given["coefficients"], np.float32)
    classes = len(given.get("classlabels_ints", [])) or len(given.get("classlabels_strings", []))  # type: ignore[arg-type]
    if finish is None or len(intercepts) != classes or classes < 2 or weights.size % classes:
        return []
    name = f"gauntlet.{node.output[1]}"
    matrix = constant(graph, f"{name}.w", np.ascontiguousarray(weights.reshape(classes, -1).T))
    bias = constant(graph, f"{name}.b", intercepts)
    scores = f"{name}.scores" if finish else node.output[1]
    made = [
        helper.make_node("MatMul", [node.input[0], matrix], [f"{name}.product"]),
        helper.make_node("Add", [f"{name}.product", bias], [scores]),
    ]
    return [*made, helper.make_node(finish, [scores], [node.output[1]])] if finish else made


def open_batch(model: ModelProto, fixed: int) -> None:
    """Let a graph that was exported for ``fixed`` images take a batch of any size.

    This changes the batch size in the input and in the targets of Reshapes; it is not enough for every graph.
    """
    graph = model.graph
    known = constants(graph)
    for node in graph.node:
        target = known.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if target is not None and target.ndim == 1 and len(target) and target[0] == fixed:
            shape = np.asarray([0, *target[1:].tolist()], np.int64)
            node.input[1] = constant(graph, f"gauntlet.{node.output[0]}.shape", shape)
            _remove_attribute(node, "allowzero")  # zero then means: keep this size
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def side(count: int) -> int | None:
    """Return the root of a square number; None for other numbers."""
    root = math.isqrt(count)
    return root if root * root == count else None


def unshare_bytes(graph: GraphProto, prefix: str) -> None:
    """Give every node that reads an int8 constant, most often a zero point, its own copy, named with ``prefix``.

    With exact sums (``runtime.session.EXACT_INT8``) ONNX Runtime cannot run a graph in which two nodes share one. Large
    constants stay shared.
    """
    shared = {t.name: t for t in graph.initializer if t.data_type == TensorProto.INT8 and not onnx_skeleton.is_large(t)}
    seen = set[str]()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in seen:
                own = graph.initializer.add()
                own.CopyFrom(shared[name])
                own.name = node.input[place] = f"{prefix}{name}.{len(graph.initializer)}"
            elif name in shared:
                seen.add(name)
