"""ONNX files as the prover and the torch twin read them."""

from pathlib import Path
from typing import IO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gauntlet.artifacts import onnx_skeleton

DEFAULT_DOMAINS = ("", "ai.onnx")


def read(file: Path | IO[bytes]) -> onnx.ModelProto:
    """The graph in a file, with weights that are stored small (a constant and a Cast of it) at their full size.

    Exact: every float16 is a float32, and ONNX Runtime folds the same nodes when it opens the file.
    """
    model = onnx.load(file)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    rest = []
    for node in graph.node:
        if node.op_type == "Cast" and node.domain in DEFAULT_DOMAINS and node.input[0] in stored:
            (to,) = (attribute.i for attribute in node.attribute if attribute.name == "to")
            value = numpy_helper.to_array(stored[node.input[0]])
            if value.dtype == np.float16 and to == onnx.TensorProto.FLOAT:
                graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), node.output[0]))
                continue
        rest.append(node)
    if len(rest) < len(graph.node):
        del graph.node[:]
        graph.node.extend(rest)
        used = {name for node in rest for name in node.input} | {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
    return model


def for_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function as onnx2pytorch takes it, with gradients that are cheap."""
    return with_cheap_gradients(_with_plain_products(_with_folded_constants(model)))


def _with_folded_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constant nodes as initializers: onnx2pytorch looks for the parameters of a layer nowhere else."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    rest = []
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] not in outputs:
            value = _constant(node)
            if value is not None:
                graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
                continue
        rest.append(node)
    del graph.node[:]
    graph.node.extend(rest)
    return model


def _constant(node: onnx.NodeProto) -> NDArray[np.generic] | None:
    """The tensor of a Constant node; None for strings and sparse ones."""
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    match attribute.name:
        case "value":
            return numpy_helper.to_array(value)
        case "value_float" | "value_floats":
            return np.asarray(value, np.float32)
        case "value_int" | "value_ints":
            return np.asarray(value, np.int64)
        case _:
            return None


def _with_plain_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of a MatMul that is no linear layer, x times a matrix, behind an Identity.

    onnx2pytorch makes a linear layer of every MatMul that reads a weight, also where it stands on the left.
    """
    graph = model.graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.domain in DEFAULT_DOMAINS:
            for i, name in enumerate(node.input):
                if name in ranks and (i, ranks[name]) != (1, 2):
                    node.input[i] = f"{node.output[0]}.{i}"
                    nodes.append(helper.make_node("Identity", [name], [node.input[i]]))
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # they lie in the graph
    del graph.node[:]
    graph.node.extend(kept)
    return model


def with_cheap_gradients(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with max(a, b) as b + relu(a - b) and min(a, b) as a - relu(a - b).

    For the twin: on the CPU torch takes several times as long for the gradient of a maximum as for that of a ReLU.
    Equal but for the last bit; where a = b the gradient goes to one of the two instead of being shared.
    """
    nodes: list[onnx.NodeProto] = []
    excess: dict[tuple[str, ...], str] = {}
    shapes = _shapes(model)
    for node in model.graph.node:
        pair = tuple(node.input)
        same = len(pair) == 2 and pair[0] in shapes and shapes[pair[0]] == shapes.get(pair[1])
        if node.op_type not in ("Max", "Min") or node.domain not in DEFAULT_DOMAINS or not same:
            nodes.append(node)
            continue
        name = excess.get(pair)
        if name is None:
            name = excess[pair] = f"{node.output[0]}.excess"
            nodes.append(helper.make_node("Sub", pair, [f"{name}.gap"]))
            nodes.append(helper.make_node("Relu", [f"{name}.gap"], [name]))
        if node.op_type == "Max":
            nodes.append(helper.make_node("Add", [pair[1], name], node.output))
        else:
            nodes.append(helper.make_node("Sub", [pair[0], name], node.output))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[object, ...]]:
    """What is known of the tensors' shapes: numbers, and names for the rest."""
    inferred = onnx_skeleton.infer_shapes(model)
    return {
        value.name: tuple(dim.dim_value or dim.dim_param or None for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
