"""What was dropped under GAUNTLET_MODELS since the service started. Imports torch, through the models it opens.

A folder with a manifest is an artefact, served as it is. A folder with nothing but a model.onnx, and perhaps a
settings.json as for POST /models, is somebody's file: it goes the way of an upload, under the folder's name.
"""

import json
from pathlib import Path

from pydantic import ValidationError

from gauntlet import store
from gauntlet.adopt.declared import Declared
from gauntlet.errors import ArtefactError, GauntletError
from gauntlet.manifest import MANIFEST_FILE, MODEL_FILE
from gauntlet.runtime import open_model
from service.errors import ServiceError, invalid
from service.http.brought import Reloaded
from service.models.engine import Engine
from service.models.shelf import taken

SETTINGS_FILE = "settings.json"


def reload(engine: Engine) -> Reloaded:
    """Take in what is new or changed. What cannot be taken is told, and the rest is served as before."""
    loaded, refused = [], {}
    for folder in sorted(path for path in engine.settings.artifacts.iterdir() if not path.name.startswith(".")):
        try:
            if take(engine, folder):
                loaded.append(folder.name)
        except (GauntletError, ServiceError) as error:
            refused[folder.name] = str(error)
    return Reloaded(loaded=loaded, refused=refused)


def take(engine: Engine, folder: Path) -> bool:
    """Whether there was anything to do. Raises GauntletError or ServiceError with the reason why it is not taken."""
    brought = engine.guests.manifest(folder.name)
    if (folder / MANIFEST_FILE).is_file():
        artefact, known = store.load(folder), engine.models.get(folder.name)
        if known is not None and known.manifest == artefact.manifest:
            return False
        if brought is not None:
            raise taken(folder.name)
        engine.models[folder.name] = open_model(artefact, engine.settings.device)
        engine.unloaded.pop(folder.name, None)
        return True
    if brought is not None or not (folder / MODEL_FILE).is_file():
        return False
    engine.guests.add((folder / MODEL_FILE).read_bytes(), _declared(folder), engine.reserved)
    return True


def _declared(folder: Path) -> Declared:
    path = folder / SETTINGS_FILE
    try:
        said = json.loads(path.read_bytes()) if path.is_file() else {}
        return Declared.model_validate({**said, "name": folder.name})
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from error
    except (ValueError, TypeError) as error:
        raise ArtefactError(f"{path}: is not a JSON object ({error})") from error
