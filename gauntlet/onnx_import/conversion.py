"""Conversion of an ONNX file into the graph that is served: tries several rewrites, and takes the first that agrees."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, version_converter

from gauntlet.artifacts import onnx_skeleton
from gauntlet.artifacts.manifest import MODEL_FILE, STRAIGHT_THROUGH, VERIFIED, Adoption, Choice, ClassifierManifest
from gauntlet.errors import refused
from gauntlet.onnx_import import (
    binary_output,
    companion_files,
    constant_folding,
    detection,
    external_weights,
    graph_edits,
    original_model,
    output_head,
    preprocessing,
    preprocessing_decision,
    preprocessing_files,
    rounded_output,
    validation,
)
from gauntlet.onnx_import.class_name_files import USUAL as NAMES
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.detection import Shape
from gauntlet.onnx_import.external_weights import Beside, nothing
from gauntlet.onnx_import.large_weights import LargeWeights
from gauntlet.onnx_import.original_model import Original, short
from gauntlet.onnx_import.output_head import Head
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime import quantised_graph

OURS = "gauntlet."  # prefix of the names of added tensors
LOGITS = "gauntlet.logits"
COMPANIONS = tuple(dict.fromkeys((*NAMES, *preprocessing_files.USUAL)))
"""Files that are looked for beside a model."""
OLD, MODERN = 13, 20  # files with an opset below OLD are converted to MODERN, if that changes no answer


@dataclass(frozen=True)
class Adopted:
    """A converted graph, as the bytes of an ONNX file, and its manifest."""

    graph: bytes
    manifest: ClassifierManifest


def adopt(
    data: bytes,
    declared: ModelSettings,
    beside: Beside = nothing,
    companions: Sequence[CompanionFile] = (),
    images: Shape | None = None,
) -> Adopted:
    """Convert a user's file into an artefact.

    The file may be hostile: call this only in a process that may die.

    Args:
        data: the file, an ONNX model or a zip that holds one.
        declared: the settings that the user declared; the others are guessed.
        beside: returns the files in which the model stores its weights; ignored for a zip, which contains them.
        companions: files that may name the classes or describe the preprocessing; those in a zip come first.
        images: the shape (C, H, W) of the images that it is opened with, for a graph that leaves it open.

    Raises:
        InvalidInput: the file is refused. ``field`` is ``file`` or a field of ModelSettings.
    """
    digest = hashlib.sha256(data)
    if data.startswith(external_weights.ZIP):
        data, beside = external_weights.unzip(data, validation.MAX_BYTES)
        companions = [*companion_files.among(beside, COMPANIONS), *companions]

    def read(name: str) -> bytes | None:
        content = beside(name)
        digest.update(content or b"")
        return content

    model = validation.read(data, read)
    del data  # as large as the model
    with tempfile.TemporaryDirectory() as folder:
        weights = LargeWeights(Path(folder))
        model = weights.without(model)
        return _adopted(model, weights, digest.hexdigest(), declared, companions, images)


def _adopted(
    model: ModelProto,
    weights: LargeWeights,
    source: str,
    declared: ModelSettings,
    companions: Sequence[CompanionFile],
    images: Shape | None,
) -> Adopted:
    """Return the graph and its manifest; ``source`` is the sha256 of the user's file with its external weights."""
    graph_edits.free_names(model.graph, OURS)
    graph_edits.unshare_bytes(model.graph, OURS)
    in_float32, alone = original_model.make_runnable(model, weights), original_model.one_at_a_time(model)
    opset, labels = validation.opset(model), detection.labels(model.graph)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    steps, choices = preprocessing_decision.found(model.graph, declared, companions, images)
    several = len(model.graph.output) > 1
    output, output_reason = detection.answer(model.graph, declared.output_name)
    file = original_model.ask(model, weights, steps, output)
    graph_edits.plain_operators(file.model, opset)
    eight_bits = quantised_graph.is_quantised(file.model)
    head = _head(file, declared)
    count = 2 if head.form == "single" else file.answers.shape[1]
    classes, choices["classes"] = detection.named_classes(declared, count, metadata, labels, companions)
    choices["output"] = head.choice
    if several:
        given = declared.output_name is not None
        choices["output_name"] = Choice(value=output, given=given, reason=output_reason)
    if alone:
        choices["batch"] = Choice(value="1", given=False, reason=alone)
    if in_float32:
        choices["precision"] = Choice(value="float32", given=False, reason=in_float32)
    graph = _rewritten(file, head)
    manifest = ClassifierManifest(
        name=declared.name,
        family="custom",
        dataset=declared.dataset,
        metrics={},
        files={MODEL_FILE: hashlib.sha256(graph).hexdigest()},
        training=None,
        input_shape=steps.image_input.image,
        classes=classes,
        gradients=STRAIGHT_THROUGH if eight_bits else VERIFIED,
        adoption=Adoption(
            source_sha256=source,
            source_opset=opset,
            choices=choices,
            scale=steps.scale,
            offset=steps.offset,
            bgr=steps.bgr,
            quantised=eight_bits,
        ),
    )
    return Adopted(graph, manifest)


def _head(file: Original, declared: ModelSettings) -> Head:
    """Simplify the end of the graph, in place, and decide how logits are obtained from it."""
    rounded_output.without_rounding(file.model.graph, file.name)
    binary_output.as_softmax(file.model.graph)
    end = output_head.last(file.model.graph, file.name)
    two_sigmoids = end is not None and end.op_type == "Sigmoid" and file.answers.shape[1] == 2
    before = file.tensor(end.input[0]) if end is not None and two_sigmoids else None
    return output_head.head(end, file.answers, before, declared.output)


def _rewritten(file: Original, head: Head) -> bytes:
    """Return the first candidate whose answers agree with the file's. Raises InvalidInput if none does."""
    reason = "it cannot be rewritten"
    for model in _candidates(file, head):
        try:
            onnx_skeleton.check(model)
            worst = _difference(file, head, file.weights.session(model))
        except Exception as error:  # another candidate may work
            reason = short(error)
            continue
        if worst <= original_model.limit(file.model, file.answers):
            return file.weights.whole(model)
        reason = f"rewritten for images in [0, 1] it answers differently, by {worst:.3g}"
    raise refused(reason)


def _candidates(file: Original, head: Head) -> Iterator[ModelProto]:
    """Yield the possible rewrites: a modern opset before the old one, an open batch before the file's fixed one."""
    old = validation.opset(file.model) < OLD
    fixed_batch = [] if file.steps.image_input.fixed is None else [False]
    open_batches = [*([] if fixed_batch and original_model.mixing(file.model) else [True]), *fixed_batch]
    for modern in (True, False) if old else (False,):
        for opened in open_batches:
            try:
                yield _rewrite(file, head, modern, opened)
            except Exception:  # noqa: S112 - the version converter raises errors of any type; the next may work
                continue


def _rewrite(file: Original, head: Head, modern: bool, opened: bool) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(file.model)
    if modern:
        model = _converted(model)
    model.ir_version = min(model.ir_version, 10)
    graph, name, steps = model.graph, file.name, file.steps
    if head.last is not None:
        last = output_head.last(graph, name)
        assert last is not None
        output_head.cut(graph, last)
        name = graph.output[0].name
    graph_edits.widen(model, file.weights)
    constant_folding.fold_constants(model, file.weights)
    graph_edits.drop_recurrent_defaults(graph)
    preprocessing.compile_in(graph, steps)
    output_head.append(graph, head, name, file.answers.shape[1], file.flat, LOGITS)
    classes = 2 if head.form == "single" else file.answers.shape[1]
    batch = "batch" if opened or steps.image_input.fixed is None else steps.image_input.fixed
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, classes]))
    if steps.image_input.fixed is not None and opened:
        graph_edits.open_batch(model, steps.image_input.fixed)
    graph_edits.prune(graph)
    graph_edits.drop_idle(model)
    return model


def _converted(model: ModelProto) -> ModelProto:
    """Return the same graph in opset MODERN. Raises whatever error the version converter raises."""
    large = [tensor for tensor in model.graph.initializer if onnx_skeleton.is_large(tensor)]
    made = version_converter.convert_version(onnx_skeleton.skeleton(model), MODERN)
    kept = [value for value in made.graph.input if value.name not in {tensor.name for tensor in large}]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    made.graph.initializer.extend(large)
    return made


def _difference(file: Original, head: Head, session: ort.InferenceSession) -> float:
    """Return the largest difference between the answers of the rewritten graph and of the file.

    With an open batch the images are run both one by one and together; otherwise in the fixed batch size.
    """
    (value,) = session.get_inputs()
    size = value.shape[0]
    worst = 0.0
    for batch in (1, len(file.images)) if isinstance(size, str) else (size,):
        for first in range(0, len(file.images), batch):
            part = file.images[first : first + batch]
            fed = np.resize(part, (batch, *part.shape[1:]))
            logits = session.run(None, {value.name: fed})[0].astype(np.float64)[: len(part)]
            gap = np.abs(output_head.again(head, logits) - file.answers[first : first + len(part)])
            worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max()))
    return worst
