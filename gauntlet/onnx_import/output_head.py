"""The output of a classifier: converts probabilities and the like to logits, which attacks and certificates need."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper

from gauntlet.artifacts.manifest import Choice
from gauntlet.errors import InvalidInput, refused
from gauntlet.onnx_import import graph_edits
from gauntlet.onnx_import.settings import Output

Array = NDArray[np.float64]

LAST: dict[str, Output] = {"Softmax": "probabilities", "LogSoftmax": "log-probabilities", "Sigmoid": "sigmoid"}
SHAPING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze"})
MIRRORED = 1e-5  # relative to 1 + the larger of the two
LEAST = 1e-30  # smallest probability whose logarithm is taken: zero has none


Form = Literal["row", "single", "mirrored"]
"""One number per class; a single number, for the second of two classes; two numbers, one the negative of the other."""


@dataclass(frozen=True)
class Head:
    """The kind of output of the file, and its last node if that one computes the output from logits."""

    output: Output
    last: NodeProto | None
    form: Form
    choice: Choice

    @property
    def file_probability(self) -> bool:
        """Whether the only output is one probability, without a last node whose input would be a logit."""
        return self.form == "single" and self.last is None and self.output in ("probabilities", "sigmoid")


def head(end: NodeProto | None, answers: Array, before: Array | None, declared: Output | None) -> Head:
    """Decide how to obtain logits: from the input of the last node, or else from the answers.

    Args:
        end: the node that ``last`` returned.
        answers: the answers (n, K) of the file to some images.
        before: the inputs (n, 2) of ``end`` for these images, if it is a Sigmoid of two numbers.
        declared: the kind of output that the user declared.

    Raises:
        InvalidInput: the output does not distinguish two classes or more.
    """
    found = _row(end, answers, declared) if answers.shape[1] > 1 else _single(end, answers, declared)
    scores = before if found.last is not None else answers if declared is None and found.output == "logits" else None
    if scores is None or not _mirrored(scores):
        return found
    words = "ends in Sigmoid of" if found.last is not None else "two scores:"
    words += " a number and its negative; half of them are the logits of the same probability"
    return replace(found, form="mirrored", choice=found.choice.model_copy(update={"reason": words}))


def _mirrored(scores: Array) -> bool:
    """Whether each row of (n, 2) scores is a number and its negative."""
    sizes = np.abs(scores).max(axis=1)
    return scores.shape[1] == 2 and bool((np.abs(scores.sum(axis=1)) <= MIRRORED * (1 + sizes)).all() and sizes.any())


def _row(end: NodeProto | None, answers: Array, declared: Output | None) -> Head:
    def made(output: Output, last: NodeProto | None, reason: str) -> Head:
        return Head(output, last, "row", Choice(value=output, given=declared is not None, reason=reason))

    if end is not None and declared in (None, LAST[end.op_type]):
        output = LAST[end.op_type]
        words = {
            "sigmoid": "ends in Sigmoid: removed; the class is the same, probabilities are a softmax of the logits",
        }.get(output, f"ends in {end.op_type}: removed, so that attacks see logits")
        return made(output, end, words)
    if declared is not None:
        words = "declared; their logarithms serve as logits" if declared == "probabilities" else "declared"
        return made(declared, None, words)
    if (answers >= -1e-6).all() and (np.abs(answers.sum(axis=1) - 1) < 1e-3).all():
        return made("probabilities", None, "the answers sum to one; their logarithms serve as logits")
    return made("logits", None, "the answers do not sum to one")


def _single(end: NodeProto | None, answers: Array, declared: Output | None) -> Head:
    """Return the head of a binary classifier with one output, which is the score of the second class."""

    def made(output: Output, last: NodeProto | None, reason: str) -> Head:
        words = f"{reason}; it is the second class's, and the first has the rest"
        return Head(output, last, "single", Choice(value=output, given=declared is not None, reason=words))

    if end is not None and end.op_type != "Sigmoid":
        raise refused(f"it gives one number for an image, and a {end.op_type} of it, which is the same for every image")
    if declared == "log-probabilities":
        raise InvalidInput("one number for an image is taken as a logit or a probability, not its logarithm", "output")
    if end is not None and declared in (None, "sigmoid", "probabilities"):
        return made("sigmoid", end, "one output that ends in Sigmoid: removed, so that attacks see a logit")
    if declared in ("sigmoid", "probabilities"):
        return made(declared, None, "declared: one output, a probability")
    if declared is None and (answers >= 0).all() and (answers <= 1).all():
        return made("probabilities", None, "one output, and its answers lie in [0, 1]: a probability")
    return made("logits", None, "one output: a logit" if declared is None else "declared: one output, a logit")


def last(graph: GraphProto, name: str) -> NodeProto | None:
    """Return the Softmax, LogSoftmax or Sigmoid that computes ``name``, apart from reshapes and casts, or None."""
    producers = graph_edits.producers(graph)
    while (node := producers.get(name)) is not None:
        if node.op_type in LAST:
            axis = graph_edits.attributes(node).get("axis", -1)
            return node if node.op_type == "Sigmoid" or axis in (1, -1) else None
        if node.op_type not in SHAPING:
            return None
        name = node.input[0]
    return None


def cut(graph: GraphProto, last: NodeProto) -> None:
    """Remove the node that computes the output from logits."""
    graph_edits.rename_input(graph, last.output[0], last.input[0])
    graph.node.remove(last)


def append(graph: GraphProto, found: Head, name: str, outputs: int, flat: bool, to: str) -> None:
    """Append nodes that compute the logits ``to`` (batch, K) from the answers ``name`` (batch, outputs)."""
    steps = 0

    def step(operator: str, *reads: str, **given: Any) -> str:
        nonlocal steps
        steps += 1
        made = f"gauntlet.out{steps}"
        graph.node.append(helper.make_node(operator, list(reads), [made], **given))
        return made

    def number(name: str, value: Any, kind: type[np.generic] = np.float32) -> str:
        return graph_edits.constant(graph, f"gauntlet.{name}", np.asarray(value, kind))

    if not flat:
        name = step("Reshape", name, number("row", [-1, outputs], np.int64))
    if found.file_probability:
        name = step("Concat", step("Sub", number("one", 1), name), name, axis=1)
    elif found.form == "single":
        name = step("MatMul", name, number("second", [[0, 1]]))
    elif found.form == "mirrored":
        name = step("Mul", name, number("half", 0.5))
    if (found.output == "probabilities" and found.last is None) or found.file_probability:
        name = step("Log", step("Max", name, number("least", LEAST)))
    graph.node.append(helper.make_node("Identity", [name], [to]))


def again(found: Head, logits: Array) -> Array:
    """Compute the file's answers from logits (n, K), to compare them with its real answers."""
    if found.form == "single":
        second = (logits[:, 1] - logits[:, 0])[:, None]
        return second if found.output == "logits" else _sigmoid(second)
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    if found.output == "probabilities":
        return np.exp(shifted) / total
    if found.output == "log-probabilities" and found.last is not None:
        return shifted - np.log(total)
    if found.output == "sigmoid" and found.last is not None:
        return _sigmoid(2 * logits if found.form == "mirrored" else logits)
    return 2 * logits if found.form == "mirrored" else logits


def _sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(z, -500, 500)))
