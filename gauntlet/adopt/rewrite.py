"""From a file that has been read to the graph that is served: every way of rewriting it, and which one is right."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, version_converter

from gauntlet.adopt import entrance, graphs, guess, head, hostile
from gauntlet.adopt.declared import Declared
from gauntlet.adopt.entrance import Entrance
from gauntlet.adopt.head import Head
from gauntlet.adopt.hostile import refused
from gauntlet.manifest import MODEL_FILE, Adoption, ClassifierManifest

Array = NDArray[np.float64]

LOGITS = "gauntlet.logits"
OLD, MODERN = 13, 20  # files older than the first are brought to the second, where that changes no answer
AGREEMENT = 1e-3  # answers of the rewritten graph and of the file, relative to 1 + the largest
COARSE = 3e-2  # the same for float16 arithmetic, which is done in float32 here


@dataclass(frozen=True)
class Adopted:
    """A graph as the store wants it, and its manifest."""

    graph: bytes
    manifest: ClassifierManifest


@dataclass(frozen=True)
class _Original:
    """The file as it came, and what it answers."""

    model: ModelProto  # with one output
    name: str  # of that output
    way: Entrance
    images: NDArray[np.float32]  # (n, C, H, W)
    answers: Array  # (n, K)
    flat: bool  # the answers are (batch, K) as they come


def adopt(data: bytes, declared: Declared) -> Adopted:
    """Rewrite somebody's file. Raises InvalidInput, its ``field`` ``file`` or one of Declared, with the reason.

    The file may be hostile: call this only in a process that may die.
    """
    model = hostile.read(data)
    source, labels = hostile.opset(model), guess.labels(model.graph)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    door = guess.door(model.graph, declared)
    limits, range_choice = guess.pixel_range(model.graph, door, declared)
    way = entrance.entrance(door, limits, declared)
    original = _original(model, way)
    graphs.plain_operators(original.model, source)
    found = head.head(original.model.graph, original.name, original.answers, declared.output)
    classes = guess.class_names(declared, original.answers.shape[1], metadata, labels)
    data_out = _rewritten(original, found)
    normalised = declared.mean is not None or declared.std is not None
    words = f"mean {declared.mean}, std {declared.std}" if normalised else "none"
    choices = {
        **door.choices,
        "pixel_range": range_choice,
        "normalisation": guess.choice(words, normalised, "nothing in the file says otherwise"),
        "output": found.choice,
        "classes": guess.choice(", ".join(classes[:10]), declared.classes is not None, "names in the file, or numbers"),
    }
    manifest = ClassifierManifest(
        name=declared.name,
        family="custom",
        dataset=declared.dataset,
        metrics={},
        files={MODEL_FILE: hashlib.sha256(data_out).hexdigest()},
        training=None,
        input_shape=door.image,
        classes=classes,
        adoption=Adoption(source_sha256=hashlib.sha256(data).hexdigest(), source_opset=source, choices=choices),
    )
    return Adopted(data_out, manifest)


def _original(model: ModelProto, way: Entrance) -> _Original:
    """Ask the file itself. Raises InvalidInput where it does not answer, or not twice the same."""
    name = guess.answer(model.graph)
    kind = TensorProto.FLOAT
    for value in model.graph.output:
        if value.name == name:
            kind = value.type.tensor_type.elem_type
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    graphs.prune(model.graph)
    draw = np.random.default_rng(0)
    shape = way.door.image
    levels = [draw.integers(0, 256, (2, *shape)), np.full((1, *shape), 128), np.zeros((1, *shape))]
    images = (np.concatenate(levels) / 255).astype(np.float32)  # (4, C, H, W)
    session = _session(model)
    raw = [_ask(session, way.feed(image[None]), way.door.fixed) for image in images]
    if sum(size > 1 for size in raw[0].shape[1:]) > 1:
        raise refused(f"it answers an image with a tensor of the shape {raw[0].shape[1:]}, a classifier with a row")
    answers = np.stack([row.reshape(-1) for row in raw]).astype(np.float64)
    if not np.isfinite(answers).all():
        raise refused("it answers plain images with NaN or infinite numbers")
    if not np.array_equal(answers[0], _ask(session, way.feed(images[:1]), way.door.fixed).reshape(-1)):
        raise refused("it answers the same image differently when asked again")
    return _Original(model, name, way, images, answers, flat=raw[0].ndim == 2)


def _session(model: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no base
        raise refused(f"ONNX Runtime does not take it ({_short(error)})") from error


def _ask(session: ort.InferenceSession, fed: NDArray[np.generic], fixed: int | None) -> NDArray[np.generic]:
    """The answer (1, ...) to one image, alone or repeated as often as the graph demands."""
    many = np.repeat(fed, fixed or 1, axis=0)
    try:
        answer: NDArray[np.generic] = session.run(None, {session.get_inputs()[0].name: many})[0]
    except Exception as error:  # ONNX Runtime's own exceptions share no base
        raise refused(f"it cannot be run on an image of the shape {fed.shape[1:]} ({_short(error)})") from error
    if answer.size % len(many):
        raise refused(f"its answer to {len(many)} images has {answer.size} numbers")
    return answer if fixed in (None, 1) else answer.reshape(len(many), -1)[:1]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _rewritten(original: _Original, found: Head) -> bytes:
    """The first way of rewriting that changes no answer; a batch that is left open comes before a fixed one."""
    reason = "it cannot be rewritten"
    for model in _candidates(original, found):
        data = model.SerializeToString()
        try:
            onnx.checker.check_model(data)
            worst = _difference(original, found, _session(model))
        except Exception as error:  # whatever is wrong with one way, another may be right
            reason = _short(error)
            continue
        limit = COARSE if _has_float16(original.model) else AGREEMENT
        if worst <= limit * (1 + float(np.abs(original.answers).max())):
            return data
        reason = f"rewritten for images in [0, 1] it answers differently, by {worst:.3g}"
    raise refused(reason)


def _candidates(original: _Original, found: Head) -> Iterator[ModelProto]:
    old = hostile.opset(original.model) < OLD
    fixed = original.way.door.fixed is not None
    for modern in (True, False) if old else (False,):
        for opened in (True, False) if fixed else (True,):
            try:
                yield _rewrite(original, found, modern, opened)
            except Exception:  # noqa: S112 - the version converter raises whatever it meets; another way may do
                continue


def _rewrite(original: _Original, found: Head, modern: bool, opened: bool) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(original.model)
    if modern:
        model = version_converter.convert_version(model, MODERN)
    model.ir_version = min(model.ir_version, 10)
    graph, name, way = model.graph, original.name, original.way
    if found.last is not None:
        last = head.last(graph, name)
        assert last is not None
        head.cut(graph, last)
        name = graph.output[0].name
    graphs.widen(model)
    entrance.compile_in(graph, way)
    head.append(graph, found, name, original.answers.shape[1], original.flat, LOGITS)
    batch = "batch" if opened or way.door.fixed is None else way.door.fixed
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, original.answers.shape[1]]))
    if way.door.fixed is not None and opened:
        graphs.open_batch(model, way.door.fixed)
    graphs.prune(graph)
    graphs.drop_idle(model)
    return model


def _has_float16(model: ModelProto) -> bool:
    kinds = [tensor.data_type for tensor in hostile.tensors(model)]
    return TensorProto.FLOAT16 in kinds or model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def _difference(original: _Original, found: Head, session: ort.InferenceSession) -> float:
    """How far the rewritten graph's answers are from the file's, images asked alone and together."""
    (value,) = session.get_inputs()
    size = value.shape[0]
    worst = 0.0
    for many in (1, len(original.images)) if isinstance(size, str) else (size,):
        for first in range(0, len(original.images), many):
            part = original.images[first : first + many]
            fed = np.resize(part, (many, *part.shape[1:]))
            logits = session.run(None, {value.name: fed})[0].astype(np.float64)[: len(part)]
            gap = np.abs(head.again(found, logits) - original.answers[first : first + len(part)])
            worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max()))
    return worst
