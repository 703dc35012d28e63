"""The Python API: from your own classifier and images to a report in two lines, without a folder of artefacts.

from gauntlet import robustness_report, write_report
write_report(robustness_report(["model.onnx"], images, labels), "report.html")  # or what open_classifier returned
"""

import hashlib
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import MODEL_FILE, ClassifierManifest
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import companion_files, model_sources, preprocessing_files
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.conversion import COMPANIONS, Adopted, adopt
from gauntlet.onnx_import.detection import Shape
from gauntlet.onnx_import.external_weights import in_folder
from gauntlet.onnx_import.imported_artefact import open_saved, save
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.onnx_import.validation import MAX_BYTES
from gauntlet.report import exports, preprocessing_choice, requirements
from gauntlet.report.build import build, ignore_progress
from gauntlet.report.exports.gate import Gate
from gauntlet.report.schema import Report, ReportRequest
from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.served import Device

OPSET = 20
OWN = "own-images"

Labelled = Callable[[ClassifierManifest], EvalSet | None]
"""Function from a manifest to labelled images with the model's input shape and classes; None if they do not fit."""


def no_images(_: ClassifierManifest) -> None:
    """The ``Labelled`` function for a file that is opened without labelled images."""


def open_classifier(
    source: str | Path | nn.Module,
    *,
    name: str | None = None,
    classes: Sequence[str] | Path | None = None,
    preprocessing: str | Path | None = None,
    example: Tensor | None = None,
    images: Tensor | NDArray[Any] | None = None,
    labels: Tensor | NDArray[Any] | Sequence[int] | None = None,
    device: Device = "auto",
    **declared_fields: Any,
) -> Classifier:
    """Open an ONNX file or a torch module as a classifier that can be attacked, certified and reported on.

    Its layout, pixel range and normalisation become part of the graph, and a final softmax is removed: the classifier
    maps images (B, C, H, W) in [0, 1] to logits (B, K). ``manifest.adoption`` lists what was guessed;
    ``manifest.gradients`` says whether gradient attacks can run. The file is trusted: it is read in this process,
    without a sandbox.

    Args:
        source: the file, with its weights in it or in files beside it; an address of
            ``gauntlet.onnx_import.model_sources``, such as ``hf://ORG/NAME@REVISION/model.onnx``; or the module, which
            needs ``example`` and the extra ``gauntlet-robustness[export]``.
        name: by default that of the file or the module.
        classes: K names, or a file with them; by default those in the file or beside it, otherwise their numbers.
        preprocessing: a ``preprocessor_config.json`` of transformers or a ``config.json`` of timm, instead of
            pixel_range, channels, mean and std. One that lies beside the file is used as a guess only.
        example: a batch of at least two images, in the form of the module's input.
        images: labelled images, in the formats of ``robustness_report``. They choose among the usual preprocessings
            that agree with the declared fields: one with clearly higher accuracy replaces the guess.
        labels: (N,), of these images.
        device: the device on which attacks run.
        declared_fields: fields of ``gauntlet.onnx_import.settings.ModelSettings`` that would otherwise be guessed.

    Raises:
        InvalidInput: the file is not such a classifier, or a declared field does not fit it.
    """
    labelled: Labelled = no_images
    shape = None
    if images is not None:
        x = np.asarray(images)
        labelled = partial(_labelled, x, np.asarray([] if labels is None else labels, np.int64))
        shape = _shape_of(x)
    declared_fields |= {"name": name, "classes": classes, "preprocessing": preprocessing}
    return open_labelled(source, labelled, shape, example=example, device=device, **declared_fields)


def open_labelled(
    source: str | Path | nn.Module,
    labelled: Labelled,
    shape: Shape | None = None,
    *,
    name: str | None = None,
    classes: Sequence[str] | Path | None = None,
    preprocessing: str | Path | None = None,
    example: Tensor | None = None,
    device: Device = "auto",
    **declared_fields: Any,
) -> Classifier:
    """Do what ``open_classifier`` does, with images that are converted once the model's classes and input are known.

    ``shape`` is that of the images, for a graph with a dynamic input shape.
    """
    if isinstance(source, str) and model_sources.is_address(source):
        with model_sources.fetched(source) as found:
            opened = open_labelled(
                found.file,
                labelled,
                shape,
                name=name or found.name,
                classes=classes,
                preprocessing=preprocessing,
                device=device,
                **declared_fields,
            )
        opened.manifest = model_sources.from_address(opened.manifest, found.address)
        return opened
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
        companions = companion_files.in_folder(file, COMPANIONS)
        if isinstance(classes, Path):
            companions.append(companion_files.given(classes, "classes"))
            classes = None
        fields = _declared({"name": plain(name), "dataset": OWN, "classes": classes, **declared_fields})
        if preprocessing is not None:
            stated = companion_files.given(Path(preprocessing), preprocessing_files.FIELD)
            fields = preprocessing_files.declared_in(stated, fields)
            companions.insert(0, preprocessing_files.as_companion(stated))
        adopted = _adopted(file, fields, companions, labelled, shape)
        manifest, folder = adopted.manifest, save(Path(root), io.BytesIO(adopted.graph), adopted.manifest.name)
        del adopted  # as large as the model
        return open_saved(folder, manifest, new=True, device=device)


def _adopted(
    file: Path,
    declared: ModelSettings,
    companions: Sequence[CompanionFile],
    labelled: Labelled,
    shape: Shape | None,
) -> Adopted:
    """Convert the file into an artefact, with the preprocessing chosen by the labelled images, if there are any."""

    def adopted(settings: ModelSettings) -> Adopted:
        return adopt(file.read_bytes(), settings, in_folder(file.parent, MAX_BYTES), companions, shape)

    guessed = adopted(declared)
    images = labelled(guessed.manifest)
    return guessed if images is None else preprocessing_choice.chosen(guessed, declared, images, adopted)


def plain(name: str) -> str:
    """Return the name in the form that manifests allow."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")


def robustness_report(
    models: Sequence[Classifier | str | Path],
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any] | Sequence[int],
    *,
    on_progress: Callable[[float], None] = ignore_progress,
    **request_fields: Any,
) -> Report:
    """Compute the robustness report of these models on these images.

    Args:
        models: classifiers of the same classes and input shape; or files, which are opened with these images, so that
            the images choose the preprocessing (``open_classifier``).
        images: (N, C, H, W), (N, H, W, C) or, of one channel, (N, H, W); in [0, 1], or 0 to 255 as uint8. They are
            rounded to 8 bits, like any picture.
        labels: (N,).
        on_progress: called with the share of the work done, which rises to 1.
        request_fields: fields of ReportRequest: n (by default all images), attacks, threats, seed, smoothing.

    Raises:
        InvalidInput: images, labels or a field that cannot be used.
    """
    x, y = np.asarray(images), np.asarray(labels, dtype=np.int64)
    opened = [open_classifier(one, images=x, labels=y) if isinstance(one, str | Path) else one for one in models]
    manifest = opened[0].manifest
    evalset = _evalset(_by_channel(x, manifest.input_shape), y, manifest.classes)
    fields = {"models": [model.name for model in opened], "dataset": OWN, "n": len(evalset.labels), **request_fields}
    try:
        request = ReportRequest.model_validate(fields, strict=False)  # accepts tuples and numpy numbers
    except ValidationError as error:
        raise _first(error) from error
    return build(request, {model.name: model for model in opened}, {OWN: evalset}, on_progress=on_progress)


def write_report(made: Report, *paths: str | Path, require: Sequence[str] = ()) -> list[str]:
    """Write a report to files, each in the format of its file ending (``gauntlet.report.exports.WRITERS``).

    Args:
        made: the report that ``robustness_report`` returned.
        paths: ``*.html``, ``*.json``, ``*.xml`` (JUnit), ``*.sarif``, ``*.cdx.json`` (CycloneDX), ``*.md``,
            ``*.card.md`` (Hugging Face).
        require: requirements such as ``robust(linf)@8/255>=0.3``, compared with the lower end of the interval.

    Returns:
        The requirements that are not met, in words.

    Raises:
        InvalidInput: an unknown ending, a file that cannot be written, or an invalid requirement.
    """
    gate = Gate([requirements.parse(text) for text in require])
    for path in map(Path, paths):
        exports.write(made, path, gate)
    return requirements.failures(made, gate.required)


def _export(module: nn.Module, example: Tensor, file: Path) -> None:
    try:
        import onnxscript  # noqa: F401, PLC0415 - only torch's exporter needs it
    except ImportError as error:
        raise InvalidInput(
            "opening a torch module needs the extra gauntlet-robustness[export]; an ONNX file does not"
        ) from error
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


def _declared(fields: dict[str, Any]) -> ModelSettings:
    try:
        return ModelSettings.model_validate(fields)
    except ValidationError as error:
        raise _first(error) from error


def _first(error: ValidationError) -> InvalidInput:
    problem = error.errors(include_url=False)[0]
    field = ".".join(map(str, problem["loc"]))
    return InvalidInput(f"{field}: {problem['msg']}", field)


def _by_channel(images: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Convert (N, H, W), or (N, H, W, C) if that fits the input ``shape``, to (N, C, H, W); return others unchanged."""
    if images.ndim == 3:
        return images[:, None]
    channels_first = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images
    return channels_first if images.shape[1:] != shape and channels_first.shape[1:] == shape else images


def _shape_of(images: NDArray[Any]) -> Shape | None:
    """Return C, H, W of images (N, H, W), (N, C, H, W) or (N, H, W, C); None for others."""
    if images.ndim == 3:
        return 1, images.shape[1], images.shape[2]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images.shape[1], images.shape[2], images.shape[3]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.shape[3], images.shape[1], images.shape[2]
    return None


def _labelled(images: NDArray[Any], labels: NDArray[np.int64], manifest: ClassifierManifest) -> EvalSet:
    """Return the images as an evalset of the model. Raises InvalidInput if they do not have its input shape."""
    found = _evalset(_by_channel(images, manifest.input_shape), labels, manifest.classes)
    if found.images.shape[1:] != manifest.input_shape:
        shapes = f"{manifest.input_shape}, these images are {found.images.shape[1:]}"
        raise InvalidInput(f"{manifest.name} takes {shapes}", "images")
    return found


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
