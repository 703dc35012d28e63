"""Constant folding: tensors that a graph computes from weights alone become weights themselves.

PyTorch's exporter leaves such nodes in the file: the division by the norm for ``weight_norm`` and ``spectral_norm``,
the reordering of the gates for an LSTM. The torch twin, the prover and the bounds need the weights themselves.
"""

import math
from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from gauntlet.onnx_import import graph_edits
from gauntlet.onnx_import.large_weights import LargeWeights
from gauntlet.runtime import quantised_graph

GROWTH = 2**20
"""Bytes that folding may add beyond the size of the weights: a small file may describe a huge constant."""


def fold_constants(model: ModelProto, weights: LargeWeights) -> None:
    """Replace the nodes that do not depend on the image by the values that ONNX Runtime computes for them, in place.

    Quantised weights stay quantised. Nothing is folded if the values would more than double the size of the weights.
    """
    graph = model.graph
    constant = _constant_nodes(model)
    computed = [node for node in constant if node.op_type != "Constant"]
    made = {name for node in computed for name in node.output}
    rest = [node for node in graph.node if not made.intersection(node.output)]
    read = {name for node in rest for name in node.input}
    wanted = [name for node in computed for name in node.output if name in read]
    if not wanted:
        return
    values = weights.session(_part(model, constant, wanted)).run(wanted, {})
    if not all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in values):
        return
    if sum(value.nbytes for value in values) > GROWTH + sum(map(_bytes, graph.initializer)):
        return
    graph_edits.replace_nodes(graph, rest)
    for name, value in zip(wanted, values, strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
        weights.set_aside(graph.initializer[-1])


def _constant_nodes(model: ModelProto) -> list[NodeProto]:
    """Return the nodes that depend on weights alone, in graph order, except those that compute graph outputs."""
    known = {tensor.name for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    found = []
    for node in model.graph.node:
        names = [name for name in node.input if name]
        computable = bool(names) and known.issuperset(names) and node.op_type not in quantised_graph.OPERATORS
        if (computable or node.op_type == "Constant") and not outputs.intersection(node.output):
            found.append(node)
            known.update(node.output)
    return found


def _part(model: ModelProto, nodes: Sequence[NodeProto], outputs: Sequence[str]) -> ModelProto:
    """Return a model without inputs that computes these tensors."""
    made = ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    graph = made.graph
    graph.name = "constants"
    graph.node.extend(nodes)
    graph.initializer.extend(model.graph.initializer)
    graph.output.extend(ValueInfoProto(name=name) for name in outputs)
    graph_edits.prune(graph)
    return made


def _bytes(tensor: TensorProto) -> int:
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
