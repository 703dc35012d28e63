"""The end of a classifier: attacks and certificates want logits, whatever the file gives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper

from gauntlet.adopt import graphs
from gauntlet.adopt.declared import Output
from gauntlet.manifest import Choice

Array = NDArray[np.float64]

LAST: dict[str, Output] = {"Softmax": "probabilities", "LogSoftmax": "log-probabilities", "Sigmoid": "sigmoid"}
SHAPING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze"})
LEAST = 1e-30  # a probability of zero has no logarithm


@dataclass(frozen=True)
class Head:
    """What the file answers, and the last node if that is what turns logits into it."""

    output: Output
    last: NodeProto | None
    choice: Choice


def head(graph: GraphProto, name: str, answers: Array, told: Output | None) -> Head:
    """How to get logits, from the graph, else from answers (n, K) to some images. Raises nothing."""
    end = last(graph, name)
    if end is not None and told in (None, LAST[end.op_type]):
        output = LAST[end.op_type]
        words = {
            "sigmoid": "ends in Sigmoid: removed; the class is the same, probabilities are a softmax of the logits",
        }.get(output, f"ends in {end.op_type}: removed, so that attacks see logits")
        return Head(output, end, Choice(value=output, given=told is not None, reason=words))
    if told is not None:
        reason = "said; their logarithms serve as logits" if told == "probabilities" else "said"
        return Head(told, None, Choice(value=told, given=True, reason=reason))
    if (answers >= -1e-6).all() and (np.abs(answers.sum(axis=1) - 1) < 1e-3).all():
        reason = "the answers sum to one; their logarithms serve as logits"
        return Head("probabilities", None, Choice(value="probabilities", given=False, reason=reason))
    return Head("logits", None, Choice(value="logits", given=False, reason="the answers do not sum to one"))


def last(graph: GraphProto, name: str) -> NodeProto | None:
    """The Softmax, LogSoftmax or Sigmoid that nothing but reshaping follows."""
    made = graphs.producers(graph)
    while (node := made.get(name)) is not None:
        if node.op_type in LAST:
            axis = graphs.attributes(node).get("axis", -1)
            return node if node.op_type == "Sigmoid" or axis in (1, -1) else None
        if node.op_type not in SHAPING:
            return None
        name = node.input[0]
    return None


def cut(graph: GraphProto, last: NodeProto) -> None:
    """Take out the node that turns logits into what the file gives."""
    graphs.rename_input(graph, last.output[0], last.input[0])
    graph.node.remove(last)


def append(graph: GraphProto, found: Head, name: str, classes: int, flat: bool, to: str) -> None:
    """Add what makes logits (batch, K) called ``to`` of the graph's answers called ``name``."""
    if found.output == "probabilities" and found.last is None:
        graphs.constant(graph, "gauntlet.least", np.asarray(LEAST, np.float32))
        graph.node.append(helper.make_node("Max", [name, "gauntlet.least"], ["gauntlet.positive"]))
        graph.node.append(helper.make_node("Log", ["gauntlet.positive"], ["gauntlet.log"]))
        name = "gauntlet.log"
    if flat:
        graph.node.append(helper.make_node("Identity", [name], [to]))
    else:
        graphs.constant(graph, "gauntlet.row", np.asarray([-1, classes], np.int64))
        graph.node.append(helper.make_node("Reshape", [name, "gauntlet.row"], [to]))


def again(found: Head, logits: Array) -> Array:
    """What the file would have answered, from logits (n, K): to be held against what it did."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    if found.output == "probabilities":
        return np.exp(shifted) / total
    if found.output == "log-probabilities" and found.last is not None:
        return shifted - np.log(total)
    if found.output == "sigmoid" and found.last is not None:
        return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return logits
