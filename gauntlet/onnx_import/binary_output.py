"""Rewrites a binary classifier that computes two probabilities from one sigmoid: the same function as a softmax."""

import numpy as np
from onnx import GraphProto, NodeProto, helper

from gauntlet.onnx_import import graph_edits


def as_softmax(graph: GraphProto) -> None:
    """Replace a Concat of 1 - sigmoid(z) and sigmoid(z), in either order, by the softmax of 0 and z, in place."""
    producers, constants = graph_edits.producers(graph), graph_edits.constants(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes += _softmax(graph, node, producers, constants) or [node]
    graph_edits.replace_nodes(graph, nodes)


def _softmax(
    graph: GraphProto, node: NodeProto, producers: dict[str, NodeProto], constants: dict[str, graph_edits.Constant]
) -> list[NodeProto]:
    if node.op_type != "Concat" or len(node.input) != 2 or graph_edits.attributes(node)["axis"] not in (1, -1):
        return []
    for place in (0, 1):
        rest, sigmoid = producers.get(node.input[1 - place]), producers.get(node.input[place])
        if rest is None or sigmoid is None or (rest.op_type, sigmoid.op_type) != ("Sub", "Sigmoid"):
            continue
        one = constants.get(rest.input[0])
        if one is not None and one.size == 1 and one.item() == 1 and rest.input[1] == sigmoid.output[0]:
            name = f"gauntlet.{node.output[0]}"
            row = graph_edits.constant(graph, f"{name}.row", np.eye(2, dtype=np.float32)[None, place].astype(one.dtype))
            pair = helper.make_node("MatMul", [sigmoid.input[0], row], [f"{name}.pair"])
            return [pair, helper.make_node("Softmax", [f"{name}.pair"], node.output, axis=1)]
    return []
