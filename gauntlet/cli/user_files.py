"""What the command line names by its file: an ONNX classifier, and labelled images."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gauntlet import python_api
from gauntlet.artifacts.class_matching import numbered
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import Choice, ClassifierManifest, sha256_of
from gauntlet.errors import GauntletError, InvalidInput, escaped, reason
from gauntlet.onnx_import import labelled_images
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.served import Device

MODELS, IMAGES = (".onnx", ".zip"), (".npz", ".zip")
LISTS = {"classes": str, "mean": float, "std": float, "input_shape": int}  # fields with commas between their values


def is_model(text: str) -> bool:
    return text.endswith(MODELS)


def is_images(text: str | None) -> bool:
    return text is not None and text.endswith(IMAGES)


def declared(texts: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE words, as ``gauntlet.python_api.open_classifier`` takes them. Raises InvalidInput."""
    said: dict[str, Any] = {}
    for text in texts:
        field, mark, value = text.partition("=")
        if not mark:
            raise InvalidInput(f"--declare {text}: write it as pixel_range=0..255 or classes=cat,dog", "declare")
        try:
            said[field] = tuple(map(LISTS[field], value.split(","))) if field in LISTS else value
        except ValueError as error:
            raise InvalidInput(f"--declare {text}: write numbers with commas between them", "declare") from error
    return said


def classifier(path: str, said: dict[str, Any], images: EvalSet | None, device: Device) -> Classifier:
    """The classifier in the file, named after it; how it was taken goes to standard error. Raises InvalidInput.

    Where nothing names its classes, those of the images do.
    """
    try:
        model = python_api.open_classifier(path, device=device, **said)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", "models") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from error
    except GauntletError:
        raise
    except Exception as error:  # whatever somebody's file leads a library to
        raise InvalidInput(f"{path}: cannot be opened ({reason(error)})", "models") from error
    if images is not None:
        model.manifest = _named_by(images, model.manifest)
    assert model.manifest.adoption is not None
    for what, choice in model.manifest.adoption.choices.items():
        how = f"not said: {choice.reason}"
        if choice.given:
            how = "; ".join(
                ["as you say", *([] if choice.reason == "said" else [choice.reason.removeprefix("said; ")])]
            )
        sys.stderr.write(escaped(f"{model.name}: {what} {choice.value} ({how})") + "\n")
    sys.stderr.write(escaped(f"{model.name}: gradients {model.manifest.gradients}") + "\n")
    return model


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


def _named_by(images: EvalSet, manifest: ClassifierManifest) -> ClassifierManifest:
    """A manifest without names of classes, with those of as many classes of images; any other as it is."""
    known, names = manifest.classes, images.classes
    if not numbered(known) or len(names) != len(known) or set(names) <= set(known):
        return manifest
    assert manifest.adoption is not None
    reason = f"a guess: nothing names the outputs, which may be in another order than the classes of {images.name}"
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    choices = manifest.adoption.choices | {"classes": Choice(value=shown, given=False, reason=reason)}
    adoption = manifest.adoption.model_copy(update={"choices": choices})
    return manifest.model_copy(update={"classes": names, "adoption": adoption})
