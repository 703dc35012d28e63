"""Runs the user's original file on a few images: the converted graph must give the same answers."""

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from gauntlet.errors import InvalidInput, refused
from gauntlet.onnx_import import graph_edits, validation
from gauntlet.onnx_import.large_weights import LargeWeights
from gauntlet.onnx_import.preprocessing import Preprocessing
from gauntlet.runtime import quantised_graph

Array = NDArray[np.float64]

AGREEMENT = 1e-3  # tolerance of answers (converted or original, batched or alone), relative to 1 + the largest
COARSE = 3e-2  # the same for float16, which is computed in float32 here, and for 8 bits, where rounding may differ

NORMALISING = "BatchNormalization"
MIXING = {
    NORMALISING: "in training mode normalises by the batch at hand: export the model in evaluation mode",
    "DynamicQuantizeLinear": "(dynamic quantisation) takes its scale from the whole batch: quantise the model "
    "statically, or export it for one image at a time, with a batch size of 1",
}
"""Operators that make an answer depend on the rest of the batch, with the explanation for the user."""


@dataclass(frozen=True)
class Original:
    """The original graph, and its answers to a few images."""

    model: ModelProto  # with one output
    name: str  # of that output
    steps: Preprocessing
    images: NDArray[np.float32]  # (n, C, H, W)
    answers: Array  # (n, K)
    flat: bool  # whether the graph returns the answers as (batch, K)
    weights: LargeWeights  # the file with the large weights of the graph

    def tensor(self, name: str) -> Array:
        """Compute another tensor of the graph for each image: (n, size), flattened."""
        model = ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.append(ValueInfoProto(name=name))
        graph_edits.prune(model.graph)
        rows = _rows(self.weights.session(model), self.steps, self.images)
        return np.stack([row.reshape(-1) for row in rows]).astype(np.float64)


def make_runnable(model: ModelProto, weights: LargeWeights) -> str:
    """Change the graph to float32, in place, if ONNX Runtime cannot run its bfloat16 or float64 operators.

    Return the reason; empty if the graph was not changed.
    """
    kinds = graph_edits.kinds(model) & {TensorProto.BFLOAT16, TensorProto.DOUBLE}
    if not kinds:
        return ""
    try:
        weights.session(model)
    except InvalidInput:
        graph_edits.widen(model, weights)
        names = " and ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in kinds))
        return f"ONNX Runtime has no operators for it in {names} on the CPU"
    return ""


def one_at_a_time(model: ModelProto) -> str:
    """Fix the batch size of a dynamically quantised graph at 1, in place, if it is open.

    Its operators compute their scale from the whole batch, so the answer to an image depends on the rest of the batch.
    Return the reason; empty if the graph was not changed.
    """
    (value, *_) = graph_edits.inputs(model.graph)
    sizes = value.type.tensor_type.shape.dim
    dynamic = any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node)
    if not dynamic or not sizes or sizes[0].HasField("dim_value"):
        return ""
    sizes[0].dim_value = 1
    return "dynamic quantisation takes its scale from the whole batch: every image is run alone"


def ask(model: ModelProto, weights: LargeWeights, steps: Preprocessing, name: str) -> Original:
    """Run the graph on a few images; ``name`` is the output with the answers, which becomes its only output.

    Raises InvalidInput if it cannot be run, its answers are not finite rows, differ from one run to the next, or depend
    on the rest of the batch.
    """
    kind = TensorProto.FLOAT
    for value in model.graph.output:
        if value.name == name:
            kind = value.type.tensor_type.elem_type
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    graph_edits.prune(model.graph)
    if steps.image_input.fixed != 1 and (why := mixing(model)):
        raise _mixed(why)
    images = _images(steps.image_input.image)
    session = weights.session(model)
    raw = _rows(session, steps, images)
    if sum(size > 1 for size in raw[0].shape[1:]) > 1:
        raise refused(f"it answers an image with a tensor of the shape {raw[0].shape[1:]}, a classifier with a row")
    answers = np.stack([row.reshape(-1) for row in raw]).astype(np.float64)
    if not np.isfinite(answers).all():
        raise refused("it answers plain images with NaN or infinite numbers")
    if not np.array_equal(answers[0], _rows(session, steps, images[:1])[0].reshape(-1)):
        raise refused("it answers the same image differently when asked again")
    if steps.image_input.fixed != 1 and _gap(session, steps, images, answers) > limit(model, answers):
        raise _mixed("an operator of it works across the batch")
    return Original(model, name, steps, images, answers, flat=raw[0].ndim == 2, weights=weights)


def _images(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return test images (4, C, H, W) in [0, 1]: noise, noise, grey, black."""
    draw = np.random.default_rng(0)
    levels = [draw.integers(0, 256, (2, *shape)), np.full((1, *shape), 128), np.zeros((1, *shape))]
    return (np.concatenate(levels) / 255).astype(np.float32)


def _rows(
    session: ort.InferenceSession, steps: Preprocessing, images: NDArray[np.float32]
) -> list[NDArray[np.generic]]:
    """Return the answer (1, ...) to each image, run alone, or repeated up to the fixed batch size of the graph."""
    return [_row(session, steps.feed(image[None]), steps.image_input.fixed) for image in images]


def _row(session: ort.InferenceSession, fed: NDArray[np.generic], fixed: int | None) -> NDArray[np.generic]:
    many = np.repeat(fed, fixed or 1, axis=0)
    try:
        answer: NDArray[np.generic] = session.run(None, {session.get_inputs()[0].name: many})[0]
    except Exception as error:  # ONNX Runtime's own exceptions share no base
        raise refused(f"it cannot be run on an image of the shape {fed.shape[1:]} ({short(error)})") from error
    if answer.size % len(many):
        raise refused(f"its answer to {len(many)} images has {answer.size} numbers")
    return answer if fixed in (None, 1) else answer.reshape(len(many), -1)[:1]


def _gap(session: ort.InferenceSession, steps: Preprocessing, images: NDArray[np.float32], answers: Array) -> float:
    """Return the largest difference between answers in one batch and one by one; 0 if a batch cannot be run."""
    fed = steps.feed(images)
    fed = np.resize(fed, (steps.image_input.fixed or len(fed), *fed.shape[1:]))
    try:
        together = session.run(None, {session.get_inputs()[0].name: fed})[0].astype(np.float64)
    except Exception:  # the graph takes only one image, although its batch size is open: other checks find that
        return 0.0
    if together.size != len(fed) * answers.shape[1]:
        return 0.0
    alone = np.resize(answers, (len(fed), answers.shape[1]))
    return float(np.nan_to_num(np.abs(together.reshape(alone.shape) - alone), nan=np.inf).max())


def mixing(model: ModelProto) -> str:
    """Return which operator makes an answer depend on the rest of the batch, and what to do; empty if none does."""
    for node in model.graph.node:
        if node.op_type in MIXING and graph_edits.attributes(node).get("training_mode", node.op_type != NORMALISING):
            return f"{node.op_type} {node.name[:100]!r} {MIXING[node.op_type]}"
    return ""


def _mixed(why: str) -> InvalidInput:
    return refused(f"its answer to an image depends on the other images of the batch: {why}")


def limit(model: ModelProto, answers: Array) -> float:
    """Return the tolerance for answers that should be equal."""
    kinds = {tensor.data_type for tensor in validation.tensors(model)} | {
        value.type.tensor_type.elem_type for value in model.graph.input
    }
    coarse = TensorProto.FLOAT16 in kinds or quantised_graph.is_quantised(model)
    return (COARSE if coarse else AGREEMENT) * (1 + float(np.abs(answers).max()))


def short(error: Exception) -> str:
    """Return the first 300 characters of an error's message, on one line."""
    return " ".join(str(error).split())[:300]
