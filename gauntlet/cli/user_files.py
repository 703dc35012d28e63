"""What the command line names by its file: an ONNX classifier, labelled images, and the names of classes."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gauntlet import python_api
from gauntlet.artifacts import evaluation_sets
from gauntlet.artifacts.class_matching import numbered
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import Choice, ClassifierManifest, sha256_of
from gauntlet.errors import GauntletError, InvalidInput, escaped, reason
from gauntlet.onnx_import import class_name_files, companion_files, labelled_images, model_sources
from gauntlet.onnx_import.preprocessing_files import FIELD
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.report import wording
from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.served import Device

MODELS, IMAGES = (".onnx", ".zip"), (".npz", ".zip")
LISTS = {"classes": str, "mean": float, "std": float, "input_shape": int}  # fields with commas between their values
IN_FILE = "@"  # what a value begins with that is the path of a file


def is_model(text: str) -> bool:
    return text.endswith(MODELS) or model_sources.is_address(text)


def is_images(text: str | None) -> bool:
    return text is not None and text.endswith(IMAGES)


def declared(texts: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE words, as ``gauntlet.python_api.open_classifier`` takes them. Raises InvalidInput."""
    said: dict[str, Any] = {}
    for text in texts:
        field, mark, value = text.partition("=")
        if not mark:
            raise InvalidInput(f"--declare {text}: write it as pixel_range=0..255 or classes=cat,dog", "declare")
        if field == FIELD or (field == "classes" and value.startswith(IN_FILE)):
            said[field] = Path(value.removeprefix(IN_FILE))
            continue
        try:
            said[field] = tuple(map(LISTS[field], value.split(","))) if field in LISTS else value
        except ValueError as error:
            raise InvalidInput(f"--declare {text}: write numbers with commas between them", "declare") from error
    return said


def class_list(classes: tuple[str, ...] | Path | None) -> tuple[str, ...] | None:
    """Classes as they were declared, read where a file has them. Raises InvalidInput."""
    if not isinstance(classes, Path):
        return classes
    names = class_name_files.read(companion_files.given(classes, "classes")).names
    if len(names) < 2:
        raise InvalidInput(f"{classes}: it names {len(names)} classes, two or more are wanted", "classes")
    return names


def classifier(
    path: str, said: dict[str, Any], images: EvalSet | None, device: Device, *, naming: bool = True
) -> Classifier:
    """The classifier in the file, named after it; how it was taken goes to standard error. Raises InvalidInput.

    The images choose the preprocessing that was not declared. Where nothing names its classes, those of the images do
    if they are ``naming``.
    """

    def labelled(manifest: ClassifierManifest) -> EvalSet | None:
        return None if images is None else _fitting(images, _named_by(images, manifest) if naming else manifest)

    shape = None if images is None else images.images.shape[1:]
    try:
        model = python_api.open_labelled(path, labelled, shape, device=device, **said)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", "models") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from error
    except GauntletError:
        raise
    except Exception as error:  # whatever somebody's file leads a library to
        raise InvalidInput(f"{path}: cannot be opened ({reason(error)})", "models") from error
    if images is not None and naming:
        model.manifest = _named_by(images, model.manifest)
    for line in _how_taken(model.manifest):
        sys.stderr.write(escaped(f"{model.name}: {line}") + "\n")
    return model


def _how_taken(manifest: ClassifierManifest) -> Iterator[str]:
    """A line for every choice, one for the preprocessing that labelled images chose, one for the gradients."""
    assert manifest.adoption is not None
    if manifest.adoption.source is not None:
        yield f"from {manifest.adoption.source}"
    for what, choice in manifest.adoption.choices.items():
        how = f"not said: {choice.reason}"
        if choice.given:
            how = "; ".join(
                ["as you say", *([] if choice.reason == "said" else [choice.reason.removeprefix("said; ")])]
            )
        yield f"{what} {choice.value} ({how})"
    trial = manifest.adoption.trial
    if trial is not None:
        taken = "as guessed" if trial.taken is None else f"{trial.taken}, {wording.CHOSEN}"
        yield f"preprocessing {taken} ({wording.trial(trial)})"
    yield f"gradients {manifest.gradients}"


def images(path: str, classes: tuple[str, ...] | None) -> EvalSet:
    """The labelled images in the file, named after it. Raises InvalidInput."""
    file = Path(path)
    try:
        found = labelled_images.read(file.read_bytes(), ImageSetSettings(name="own", classes=classes))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", "dataset") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from error
    name = python_api.plain(file.stem)
    return EvalSet(name, found.images, found.labels, found.classes, "given by the caller", sha256_of(file))


def _fitting(images: EvalSet, manifest: ClassifierManifest) -> EvalSet | None:
    """The images labelled as the model numbers its classes; None where they do not fit it, which is told later."""
    if manifest.input_shape != images.images.shape[1:]:
        return None
    try:
        return evaluation_sets.matched(images, manifest.classes, manifest.name)
    except InvalidInput:
        return None


def _named_by(images: EvalSet, manifest: ClassifierManifest) -> ClassifierManifest:
    """A manifest without names of classes, with those of as many classes of images; any other as it is."""
    known, names = manifest.classes, images.classes
    if not numbered(known) or len(names) != len(known) or set(names) <= set(known):
        return manifest
    assert manifest.adoption is not None
    reason = f"a guess: nothing names the outputs, which may be in another order than the classes of {images.name}"
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    choices = manifest.adoption.choices
    remarks = choices["classes"].reason.partition("; ")[1:]  # on names that were found and do not fit
    reason += "".join(remarks)
    choices = choices | {"classes": Choice(value=shown, given=False, reason=reason)}
    adoption = manifest.adoption.model_copy(update={"choices": choices})
    return manifest.model_copy(update={"classes": names, "adoption": adoption})
