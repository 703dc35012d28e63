"""Reader of ONNX files for the prover and the torch twin, with the rewrites that they need."""

from pathlib import Path
from typing import IO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gauntlet.artifacts import onnx_skeleton

DEFAULT_DOMAINS = ("", "ai.onnx")


def read(file: Path | IO[bytes]) -> onnx.ModelProto:
    """Read a model, and convert weights that are stored as float16 with a Cast to float32.

    This is exact: every float16 is a float32, and ONNX Runtime folds the same nodes when it opens the file.
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
    """Rewrite the graph in place for onnx2pytorch, with cheap gradients; it computes the same function."""
    return with_cheap_gradients(_with_plain_products(_with_folded_constants(model)))


def _with_folded_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace Constant nodes by initializers, the only place where onnx2pytorch looks for the parameters of a layer."""
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
    """Return the tensor of a Constant node; None for strings and sparse tensors."""
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
    """Put an Identity before the weight of every MatMul that is not a linear layer (x times a matrix).

    onnx2pytorch converts every MatMul with a weight to a linear layer, even if the weight is the left factor.
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
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # nodes belong to the graph
    del graph.node[:]
    graph.node.extend(copies)
    return model


def with_cheap_gradients(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace max(a, b) by b + relu(a - b) and min(a, b) by a - relu(a - b), in place, for the twin.

    On the CPU torch takes several times as long for the gradient of a maximum as for that of a ReLU. The results are
    equal up to the last bit; where a = b the gradient goes to one of the two instead of being shared.
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
    """Return the shape of every tensor as far as it is known: numbers, names of open sizes, None for the rest."""
    inferred = onnx_skeleton.infer_shapes(model)
    return {
        value.name: tuple(dim.dim_value or dim.dim_param or None for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
