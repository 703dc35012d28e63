"""POST /models/reload: folders put under GAUNTLET_MODELS since the service started. Imports torch.

A folder with a manifest is an artefact, served as it is. A folder with nothing but a model.onnx, and perhaps a
settings.json as for POST /models and files with its weights, is somebody's file: it goes the way of an upload, under
the folder's name.
"""

import contextlib
import json
from pathlib import Path

from pydantic import ValidationError

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MANIFEST_FILE, MODEL_FILE
from gauntlet.errors import ArtefactError, GauntletError
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.onnx_import.validation import MAX_BYTES
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier
from service.compute.model_added import model_added
from service.compute.models import ComputeModels
from service.errors import ServiceError, invalid
from service.schemas.uploads import Reloaded
from service.uploads.openings import name_taken
from service.uploads.ownership import OPERATORS

SETTINGS_FILE = "settings.json"


def reload(models: ComputeModels) -> Reloaded:
    """Take in what is new or changed. What cannot be taken is told, and the rest is served as before."""
    loaded, refused = [], {}
    for folder in sorted(path for path in models.catalog.folder.iterdir() if not path.name.startswith(".")):
        try:
            if take(models, folder):
                loaded.append(folder.name)
        except (GauntletError, ServiceError) as error:
            refused[folder.name] = str(error)
    return Reloaded(loaded=loaded, refused=refused)


def take(models: ComputeModels, folder: Path) -> bool:
    """Whether there was anything to do. Raises GauntletError or ServiceError with the reason why it is not taken."""
    catalog, name = models.catalog, folder.name
    uploaded = models.uploaded.manifests.get(name)
    if (folder / MANIFEST_FILE).is_file():
        manifest = artefact_folders.load(folder).manifest
        if catalog.shipped.get(name) == manifest:
            return False
        if uploaded is not None:
            raise name_taken(name)
        models.open(manifest)  # proved and verified before it is in service
        catalog.put(manifest)
        return True
    if uploaded is not None or not (folder / MODEL_FILE).is_file():
        return False
    declared = _declared(folder)
    models.openings.begin(name, models.settings.opener, OPERATORS)
    try:
        _upload(models, folder, declared)
    except BaseException:
        models.openings.forget(name)  # who asked is told the reason
        raise
    return True


def _upload(models: ComputeModels, folder: Path, declared: ModelSettings) -> None:
    def describe(model: SandboxedClassifier) -> None:
        models.openings.proved(declared.name, model_added(model).certificate.model_dump())

    with contextlib.ExitStack() as opened:
        file = opened.enter_context((folder / MODEL_FILE).open("rb"))
        weights = {path.name: opened.enter_context(path.open("rb")) for path in _weights(folder)}
        reserved = models.catalog.reserved
        models.uploaded.add(file, declared, reserved, OPERATORS, weights=weights, describe=describe)
    models.openings.ready(declared.name)


def _weights(folder: Path) -> list[Path]:
    """The other files of a folder: its model may keep weights there. Raises ArtefactError where they are too large."""
    paths = [path for path in sorted(folder.iterdir()) if path.name not in (MODEL_FILE, SETTINGS_FILE)]
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_size for path in files) > MAX_BYTES:
        raise ArtefactError(f"{folder}: the files beside {MODEL_FILE} have more than {MAX_BYTES} bytes")
    return files


def _declared(folder: Path) -> ModelSettings:
    path = folder / SETTINGS_FILE
    try:
        settings = json.loads(path.read_bytes()) if path.is_file() else {}
        return ModelSettings.model_validate({**settings, "name": folder.name})
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from error
    except (ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: is not a JSON object ({error})") from error
