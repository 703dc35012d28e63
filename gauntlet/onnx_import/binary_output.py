"""The two probabilities of a binary classifier, made of one sigmoid, as a softmax: the same function, with logits."""

import numpy as np
from onnx import GraphProto, NodeProto, helper

from gauntlet.onnx_import import graph_edits


def as_softmax(graph: GraphProto) -> None:
    """Concat of 1 - sigmoid(z) and sigmoid(z), in either order, becomes the softmax of 0 and z."""
    made, known = graph_edits.producers(graph), graph_edits.constants(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes += _softmax(graph, node, made, known) or [node]
    graph_edits.replace_nodes(graph, nodes)


def _softmax(
    graph: GraphProto, node: NodeProto, made: dict[str, NodeProto], known: dict[str, graph_edits.Constant]
) -> list[NodeProto]:
    if node.op_type != "Concat" or len(node.input) != 2 or graph_edits.attributes(node)["axis"] not in (1, -1):
        return []
    for place in (0, 1):
        rest, sigmoid = made.get(node.input[1 - place]), made.get(node.input[place])
        if rest is None or sigmoid is None or (rest.op_type, sigmoid.op_type) != ("Sub", "Sigmoid"):
            continue
        one = known.get(rest.input[0])
        if one is not None and one.size == 1 and one.item() == 1 and rest.input[1] == sigmoid.output[0]:
            name = f"gauntlet.{node.output[0]}"
            row = graph_edits.constant(graph, f"{name}.row", np.eye(2, dtype=np.float32)[None, place].astype(one.dtype))
            pair = helper.make_node("MatMul", [sigmoid.input[0], row], [f"{name}.pair"])
            return [pair, helper.make_node("Softmax", [f"{name}.pair"], node.output, axis=1)]
    return []
