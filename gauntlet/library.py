"""Gauntlet without a folder of artefacts: your own classifier and your own images, three lines to a report.

from gauntlet.library import classifier, report, write
model = classifier("model.onnx")  # or a torch module, with an example of its input
write(report([model], images, labels), "report.html")
"""

import hashlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet import runtime, store
from gauntlet.errors import InvalidInput
from gauntlet.evalset import EvalSet
from gauntlet.manifest import MANIFEST_FILE, MODEL_FILE, ClassifierManifest, digest_files
from gauntlet.report.builder import build, unheard
from gauntlet.report.page import render
from gauntlet.report.schema import Report, ReportRequest
from gauntlet.runtime import Classifier, Device

OPSET = 20
OWN = "own-images"
WRITERS: Mapping[str, Callable[[Report], str]] = {
    ".html": render,
    ".json": lambda report: report.model_dump_json(indent=1),
}


def classifier(
    source: str | Path | nn.Module,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    example: Tensor | None = None,
    device: Device = "auto",
) -> Classifier:
    """A classifier that can be attacked, certified and reported on, from an ONNX file or a torch module.

    It takes images (B, C, H, W) in [0, 1], normalisation inside, and gives logits (B, K).

    Args:
        source: the file; or the module, which needs ``example`` and the extra ``gauntlet[export]``.
        name: by default the file's or the module's.
        classes: K names; by default their numbers.
        example: a batch of at least two images as the module takes them.
        device: where attacks run.

    Raises:
        ArtefactError: it cannot be run or converted for its gradients, and why.
        InvalidInput: a name, a shape or a number of classes that does not fit.
    """
    with tempfile.TemporaryDirectory() as root:
        if isinstance(source, nn.Module):
            if example is None:
                raise InvalidInput("a torch module needs an example: a batch of at least two images", "example")
            file = Path(root) / MODEL_FILE
            _export(source, example, file)
            name = name or type(source).__name__
        else:
            file = Path(source)
            name = name or file.stem
        folder = Path(root) / re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
        folder.mkdir()
        shutil.copyfile(file, folder / MODEL_FILE)
        _describe(folder, classes)
        opened = runtime.open_model(store.load(folder), device)
    assert isinstance(opened, Classifier)
    return opened


def report(
    models: Sequence[Classifier],
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any] | Sequence[int],
    *,
    on_progress: Callable[[float], None] = unheard,
    **asked: Any,
) -> Report:
    """The robustness report of these models on these images.

    Args:
        models: of the same classes and input shape.
        images: (N, C, H, W), in [0, 1], or 0 to 255 as uint8. They are rounded to 8 bits, like any picture.
        labels: (N,).
        on_progress: hears the share of the work done, rising to 1.
        asked: fields of ReportRequest: n (by default all images), attacks, threats, seed, smoothing.

    Raises:
        InvalidInput: images, labels or a field that cannot be used.
    """
    evalset = _evalset(np.asarray(images), np.asarray(labels, dtype=np.int64), models[0].manifest.classes)
    fields = {"models": [model.name for model in models], "dataset": OWN, "n": len(evalset.labels), **asked}
    try:
        request = ReportRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return build(request, {model.name: model for model in models}, {OWN: evalset}, on_progress=on_progress)


def write(made: Report, *paths: str | Path) -> None:
    """Write a report as *.html or *.json. Raises InvalidInput for another ending."""
    for path in map(Path, paths):
        path.write_text(writer(path)(made))


def writer(path: Path) -> Callable[[Report], str]:
    """What turns a report into the text of such a file. Raises InvalidInput where nothing does."""
    if path.suffix not in WRITERS:
        raise InvalidInput(f"{path}: a report is written to {' or '.join(f'*{suffix}' for suffix in WRITERS)}")
    return WRITERS[path.suffix]


def _export(module: nn.Module, example: Tensor, file: Path) -> None:
    try:
        import onnxscript  # noqa: F401, PLC0415 - torch's exporter needs it, nothing else does
    except ImportError as error:
        raise InvalidInput("a torch module needs gauntlet[export]; an ONNX file needs nothing more") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module.eval(),
            (example,),
            str(file),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )


def _describe(folder: Path, classes: Sequence[str] | None) -> None:
    """Write the manifest of a folder with a model of which nothing but its graph is known."""
    try:
        graph = onnx.load(folder / MODEL_FILE, load_external_data=False).graph
    except DecodeError as error:
        raise InvalidInput(f"{folder.name} is not an ONNX file ({error})", "source") from error
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*inputs, *graph.output)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or len(shapes[1]) != 2 or not all(shapes[0][1:] + shapes[1][1:]):
        raise InvalidInput(
            f"{folder.name} must take one input (batch, C, H, W) and give one output (batch, K), not {shapes}",
            "source",
        )
    count = shapes[1][1]
    if classes is not None and len(classes) != count:
        raise InvalidInput(f"{folder.name} has {count} classes, not {len(classes)}", "classes")
    manifest = ClassifierManifest(
        name=folder.name,
        family="custom",
        dataset=OWN,
        metrics={},
        files=digest_files(folder, [MODEL_FILE]),
        training=None,
        input_shape=(shapes[0][1], shapes[0][2], shapes[0][3]),
        classes=tuple(classes or map(str, range(count))),
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())


def _evalset(images: NDArray[Any], labels: NDArray[np.int64], classes: tuple[str, ...]) -> EvalSet:
    if images.ndim != 4 or len(images) != len(labels) or len(labels) == 0:
        raise InvalidInput(f"images (N, C, H, W) need N labels; these are {images.shape} and {labels.shape}", "images")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise InvalidInput(f"a label is not one of the {len(classes)} classes", "labels")
    if images.dtype != np.uint8:
        if not (images.min() >= 0 and images.max() <= 1):  # NaN too
            raise InvalidInput("images must lie in [0, 1], or be uint8", "images")
        images = np.rint(images * 255).astype(np.uint8)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return EvalSet(OWN, images, labels, classes, "given by the caller", digest)
