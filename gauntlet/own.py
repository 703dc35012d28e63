"""What the command line names by its file: an ONNX classifier, and labelled images."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gauntlet import library
from gauntlet.adopt import pictures
from gauntlet.adopt.declared import DeclaredImages
from gauntlet.errors import InvalidInput
from gauntlet.evalset import EvalSet
from gauntlet.manifest import ClassifierManifest, sha256_of
from gauntlet.runtime import Classifier, Device

MODELS, IMAGES = (".onnx",), (".npz", ".zip")
LISTS = {"classes": str, "mean": float, "std": float, "input_shape": int}  # fields with commas between their values


def is_model(text: str) -> bool:
    return text.endswith(MODELS)


def is_images(text: str | None) -> bool:
    return text is not None and text.endswith(IMAGES)


def declared(texts: Sequence[str]) -> dict[str, Any]:
    """FIELD=VALUE words, as ``gauntlet.library.classifier`` takes them. Raises InvalidInput."""
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
    """The classifier in the file, named after it; every guess goes to standard error. Raises InvalidInput."""
    if images is not None and not _numbered(images):
        said = {"classes": images.classes, **said}
    try:
        model = library.classifier(path, device=device, **said)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", "models") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from error
    assert isinstance(model.manifest, ClassifierManifest)
    assert model.manifest.adoption is not None
    for what, choice in model.manifest.adoption.choices.items():
        how = "as you say" if choice.given else f"guessed: {choice.reason}"
        sys.stderr.write(f"{model.name}: {what} {choice.value} ({how})\n")
    sys.stderr.write(f"{model.name}: gradients {model.manifest.gradients}\n")
    return model


def images(path: str, classes: tuple[str, ...] | None) -> EvalSet:
    """The labelled images in the file, named after it. Raises InvalidInput."""
    file = Path(path)
    try:
        found = pictures.read(file.read_bytes(), DeclaredImages(name="own", classes=classes))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", "dataset") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from error
    name = library.plain(file.stem)
    return EvalSet(name, found.images, found.labels, found.classes, "given by the caller", sha256_of(file))


def named(images: EvalSet, model: Classifier) -> EvalSet:
    """Images whose classes have only numbers get the names that the model has for them."""
    names = model.manifest.classes
    fits = _numbered(images) and len(images.classes) <= len(names)
    return dataclasses.replace(images, classes=names) if fits else images


def _numbered(images: EvalSet) -> bool:
    return images.classes == tuple(map(str, range(len(images.classes))))
