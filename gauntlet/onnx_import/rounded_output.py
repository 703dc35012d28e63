"""Removes the rounding after the last softmax or sigmoid of a quantised classifier.

A probability rounded to 8 bits is 0 for most classes, and its logit cannot be recovered.
"""

from typing import Any

from onnx import GraphProto, NodeProto, helper

from gauntlet.onnx_import import graph_edits
from gauntlet.onnx_import.output_head import LAST, SHAPING

QUANTISED = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}


def without_rounding(graph: GraphProto, name: str) -> None:
    """Remove the rounding between a softmax or sigmoid and the answers called ``name``, in place."""
    producers = graph_edits.producers(graph)
    end = _skip(producers, name)
    if end is None or end.op_type != "DequantizeLinear":
        return
    rounding = _skip(producers, end.input[0])
    if rounding is None:
        return
    if rounding.op_type == "QuantizeLinear":
        before = _skip(producers, rounding.input[0])
        if before is not None and before.op_type in LAST:
            _replace(graph, end, [helper.make_node("Identity", [rounding.input[0]], end.output)])
    elif rounding.op_type in QUANTISED:
        _replace(graph, end, _in_floats(rounding, end))


def _in_floats(rounding: NodeProto, end: NodeProto) -> list[NodeProto]:
    """Return nodes that dequantise the logits and then compute the softmax or sigmoid in floats."""
    given = graph_edits.attributes(rounding)
    axis: dict[str, Any] = {"axis": given.get("axis", -1)} if rounding.op_type == "QLinearSoftmax" else {}
    logits = f"gauntlet.{end.output[0]}"
    return [
        helper.make_node("DequantizeLinear", rounding.input[:3], [logits]),
        helper.make_node(QUANTISED[rounding.op_type], [logits], end.output, **axis),
    ]


def _skip(producers: dict[str, NodeProto], name: str) -> NodeProto | None:
    """Return the node that computes a tensor, apart from reshapes and casts."""
    while (node := producers.get(name)) is not None and node.op_type in SHAPING:
        name = node.input[0]
    return node


def _replace(graph: GraphProto, node: NodeProto, by: list[NodeProto]) -> None:
    nodes = [new for old in graph.node for new in (by if old == node else [old])]
    graph_edits.replace_nodes(graph, nodes)
