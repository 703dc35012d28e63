"""The last step of a quantised classifier, a softmax or a sigmoid rounded to bytes, as the same step without rounding.

A rounded probability is 0 for most classes, and nothing leads back from there to a logit.
"""

from typing import Any

from onnx import GraphProto, NodeProto, helper

from gauntlet.onnx_import import graph_edits
from gauntlet.onnx_import.output_head import LAST, SHAPING

QUANTISED = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}


def without_rounding(graph: GraphProto, name: str) -> None:
    """Take the rounding out between a softmax or sigmoid and the answers called ``name``, in place."""
    made = graph_edits.producers(graph)
    end = _skip(made, name)
    if end is None or end.op_type != "DequantizeLinear":
        return
    rounding = _skip(made, end.input[0])
    if rounding is None:
        return
    if rounding.op_type == "QuantizeLinear":
        before = _skip(made, rounding.input[0])
        if before is not None and before.op_type in LAST:
            _replace(graph, end, [helper.make_node("Identity", [rounding.input[0]], end.output)])
    elif rounding.op_type in QUANTISED:
        _replace(graph, end, _in_floats(rounding, end))


def _in_floats(rounding: NodeProto, end: NodeProto) -> list[NodeProto]:
    given = graph_edits.attributes(rounding)
    axis: dict[str, Any] = {"axis": given.get("axis", -1)} if rounding.op_type == "QLinearSoftmax" else {}
    logits = f"gauntlet.{end.output[0]}"
    return [
        helper.make_node("DequantizeLinear", rounding.input[:3], [logits]),
        helper.make_node(QUANTISED[rounding.op_type], [logits], end.output, **axis),
    ]


def _skip(made: dict[str, NodeProto], name: str) -> NodeProto | None:
    """The node that makes a tensor, reshaping left out."""
    while (node := made.get(name)) is not None and node.op_type in SHAPING:
        name = node.input[0]
    return node


def _replace(graph: GraphProto, node: NodeProto, by: list[NodeProto]) -> None:
    nodes = [new for old in graph.node for new in (by if old == node else [old])]
    graph_edits.replace_nodes(graph, nodes)
