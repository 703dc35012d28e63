"""Files that the command line takes by path: ONNX classifiers, labelled images, and the names of classes."""

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
IN_FILE = "@"  # prefix of a value that is the path of a file


def is_model(text: str) -> bool:
    """Return whether it is the path or the address of a model, not the name of a shipped one."""
    return text.endswith(MODELS) or model_sources.is_address(text)


def is_images(text: str | None) -> bool:
    """Return whether it is the path of labelled images, not the name of an evaluation set."""
    return text is not None and text.endswith(IMAGES)


def declared(texts: Sequence[str]) -> dict[str, Any]:
    """Return FIELD=VALUE arguments as ``gauntlet.python_api.open_classifier`` takes them. Raises InvalidInput."""
    settings: dict[str, Any] = {}
    for text in texts:
        field, mark, value = text.partition("=")
        if not mark:
            raise InvalidInput(f"--declare {text}: write it as pixel_range=0..255 or classes=cat,dog", "declare")
        if field == FIELD or (field == "classes" and value.startswith(IN_FILE)):
            settings[field] = Path(value.removeprefix(IN_FILE))
            continue
        try:
            settings[field] = tuple(map(LISTS[field], value.split(","))) if field in LISTS else value
        except ValueError as error:
            raise InvalidInput(f"--declare {text}: write numbers with commas between them", "declare") from error
    return settings


def class_list(classes: tuple[str, ...] | Path | None) -> tuple[str, ...] | None:
    """Return the declared classes, read from their file if a path is given. Raises InvalidInput."""
    if not isinstance(classes, Path):
        return classes
    names = class_name_files.read(companion_files.given(classes, "classes")).names
    if len(names) < 2:
        raise InvalidInput(f"{classes}: it names {len(names)} classes, two or more are needed", "classes")
    return names


def classifier(
    path: str, settings: dict[str, Any], images: EvalSet | None, device: Device, *, naming: bool = True
) -> Classifier:
    """Return the classifier in the file, named after it; print how it was imported to standard error.

    The images choose the preprocessing that was not declared. If neither the file nor the settings name the classes,
    the images do, if ``naming``. Raises InvalidInput.
    """

    def labelled(manifest: ClassifierManifest) -> EvalSet | None:
        return None if images is None else _fitting(images, _named_by(images, manifest) if naming else manifest)

    shape = None if images is None else images.images.shape[1:]
    try:
        model = python_api.open_labelled(path, labelled, shape, device=device, **settings)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})", "models") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}", error.field) from error
    except GauntletError:
        raise
    except Exception as error:  # libraries may raise anything on a user's file
        raise InvalidInput(f"{path}: cannot be opened ({reason(error)})", "models") from error
    if images is not None and naming:
        model.manifest = _named_by(images, model.manifest)
    for line in _import_notes(model.manifest):
        sys.stderr.write(escaped(f"{model.name}: {line}") + "\n")
    return model


def _import_notes(manifest: ClassifierManifest) -> Iterator[str]:
    """Yield a line for every choice, one for the preprocessing that labelled images chose, one for the gradients."""
    assert manifest.adoption is not None
    if manifest.adoption.source is not None:
        yield f"from {manifest.adoption.source}"
    for what, choice in manifest.adoption.choices.items():
        how = f"not declared: {choice.reason}"
        if choice.given:
            how = "; ".join(
                ["as declared", *([] if choice.reason == "declared" else [choice.reason.removeprefix("declared; ")])]
            )
        yield f"{what} {choice.value} ({how})"
    trial = manifest.adoption.trial
    if trial is not None:
        taken = "as guessed" if trial.taken is None else f"{trial.taken}, {wording.CHOSEN}"
        yield f"preprocessing {taken} ({wording.trial(trial)})"
    yield f"gradients {manifest.gradients}"


def images(path: str, classes: tuple[str, ...] | None) -> EvalSet:
    """Return the labelled images in the file, named after it. Raises InvalidInput."""
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
    """Return the images labelled as the model numbers its classes; None if they do not fit, an error raised later."""
    if manifest.input_shape != images.images.shape[1:]:
        return None
    try:
        return evaluation_sets.matched(images, manifest.classes, manifest.name)
    except InvalidInput:
        return None


def _named_by(images: EvalSet, manifest: ClassifierManifest) -> ClassifierManifest:
    """Return the manifest with the class names of the images if it has none, and equally many; else unchanged."""
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
