"""The repository of this process: what there is, taken out of service and brought back. Imports torch."""

from pydantic import TypeAdapter, ValidationError

from gauntlet.errors import ArtefactError, DeviceError
from gauntlet.manifest import MANIFEST_FILE, MODEL_FILE, Name
from service.errors import Code, ServiceError
from service.models.engine import Engine
from service.models.folders import take
from service.v2.schemas import IndexEntry, RepositoryIndex

NAME: TypeAdapter[str] = TypeAdapter(Name)


def index(engine: Engine, *, ready: bool) -> RepositoryIndex:
    """Models that answer, and unless ``ready`` is asked for those that could be loaded."""
    entries = [
        IndexEntry(name=manifest.name, version=manifest.model_sha256, state="READY", reason="")
        for manifest in engine.manifests()
    ]
    if ready:
        return RepositoryIndex(entries)
    known = {entry.name for entry in entries}
    entries += [
        IndexEntry(name=name, version=manifest.model_sha256, state="UNAVAILABLE", reason="unloaded")
        for name, manifest in list(engine.unloaded.items())
        if name not in known
    ]
    known |= engine.unloaded.keys()
    entries += [
        IndexEntry(name=folder.name, version="", state="UNAVAILABLE", reason="not loaded yet")
        for folder in sorted(engine.settings.artifacts.iterdir())
        if folder.name not in known and _loadable(folder.name, engine)
    ]
    return RepositoryIndex(entries)


def load(engine: Engine, name: str) -> None:
    """From its folder, if that has changed or is new, or from the job database. Raises ServiceError or InvalidInput."""
    if engine.guests.manifest(name) is not None:
        engine.unloaded.pop(name, None)
        engine.model(name, "name")
        return
    if not _loadable(name, engine):
        engine.unloaded.pop(name, None)
        raise engine.unknown(name, "name")
    try:
        take(engine, engine.settings.artifacts / name)
    except (ArtefactError, DeviceError) as error:
        raise ServiceError(Code.MODEL_FAILED, f"{name} cannot be loaded: {error}") from error


def unload(engine: Engine, name: str) -> None:
    """Until it is loaded again, or the process starts anew. Raises ServiceError ``unknown_model`` or ``in_use``."""
    manifest = engine.manifest(name, "name")
    if name in engine.models:
        del engine.models[name]
    else:
        engine.guests.rest(name)
    engine.unloaded[name] = manifest


def _loadable(name: str, engine: Engine) -> bool:
    """Whether there is a folder for it: a name with a slash or dots in front is none."""
    try:
        folder = engine.settings.artifacts / NAME.validate_python(name)
    except ValidationError:
        return False
    return (folder / MANIFEST_FILE).is_file() or (folder / MODEL_FILE).is_file()
