"""Which models there are: those under GAUNTLET_MODELS, less what has been unloaded, and those that users uploaded.

All processes of a service agree on it. The compute process changes it (POST /models/reload, the Open Inference
Protocol's load and unload) and writes it to a file of the state folder, which the others read again when it changes.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import MANIFEST_FILE, MODEL_FILE, ClassifierManifest, GeneratorManifest, Manifest, Name
from gauntlet.errors import ArtefactError
from service.errors import Code, ServiceError
from service.replace_file import Stamp, replace_text, stamp
from service.settings import Settings
from service.uploads.manifests import UploadedManifests
from service.uploads.openings import Opening

AnyManifest = ClassifierManifest | GeneratorManifest
NAME: TypeAdapter[str] = TypeAdapter(Name)


class Repository(BaseModel):
    """What is in service under GAUNTLET_MODELS, and what an admin has taken out of service, uploads included."""

    model_config = ConfigDict(frozen=True)

    shipped: dict[str, Manifest]
    unloaded: dict[str, Manifest] = {}


class RepositoryFile:
    """The file in which the processes share it. Without one there is what was found at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, known: Stamp | None) -> tuple[Stamp, Repository] | None:
        """What it says, and its stamp, unless that is the one known."""
        try:
            new = stamp(self._path)
        except FileNotFoundError:
            return None
        return None if new == known else (new, Repository.model_validate_json(self._path.read_bytes()))

    def write(self, repository: Repository) -> None:
        replace_text(self._path, repository.model_dump_json())


class Catalog:
    """The names of models and their manifests; opens none of them, and reads no weights. Raises ArtefactError."""

    def __init__(self, settings: Settings, uploads: UploadedManifests) -> None:
        self.folder, self._uploads = settings.artifacts, uploads
        found = map(artefact_folders.read_manifest, artefact_folders.folders(settings.artifacts))
        self._known: tuple[Stamp | None, Repository] = None, Repository(shipped={each.name: each for each in found})
        self._file = RepositoryFile(settings.repository_file)
        self.refresh()

    def refresh(self) -> None:
        """Take in what the compute process has changed. One look at a file's date, where that is nothing."""
        self._known = self._file.read(self._known[0]) or self._known

    def put(self, manifest: AnyManifest) -> None:
        """Take a model under GAUNTLET_MODELS into service, in all processes."""
        unloaded = {name: other for name, other in self.unloaded.items() if name != manifest.name}
        self._change({**self.shipped, manifest.name: manifest}, unloaded)

    def take_out(self, manifest: AnyManifest) -> None:
        """Take a model out of service, in all processes."""
        shipped = {name: other for name, other in self.shipped.items() if name != manifest.name}
        self._change(shipped, {**self.unloaded, manifest.name: manifest})

    def forget_unloaded(self, name: str) -> None:
        """An upload of this name is in service again, or there is nothing of this name any more."""
        if name in self.unloaded:
            self._change(self.shipped, {other: found for other, found in self.unloaded.items() if other != name})

    def _change(self, shipped: Mapping[str, AnyManifest], unloaded: Mapping[str, AnyManifest]) -> None:
        self._file.write(Repository(shipped=dict(shipped), unloaded=dict(unloaded)))
        self.refresh()

    @property
    def shipped(self) -> Mapping[str, AnyManifest]:
        """By name: those in service that came with it."""
        return self._known[1].shipped

    @property
    def unloaded(self) -> Mapping[str, AnyManifest]:
        return self._known[1].unloaded

    def visible_unloaded(self) -> Mapping[str, AnyManifest]:
        """Without the uploads that the call under way may not see."""
        if not self.unloaded:
            return {}
        hidden = self._uploads.hidden()
        return {name: manifest for name, manifest in self.unloaded.items() if name not in hidden}

    @property
    def reserved(self) -> frozenset[str]:
        """Names that nobody can give to a model of theirs."""
        return frozenset([*self.shipped, *self.unloaded, "reload"])  # /models/reload is a call

    def manifests(self) -> list[AnyManifest]:
        """Of all models that are in service, as far as the call under way may see them."""
        uploaded = [found for name, found in self._uploads.all().items() if found != self.unloaded.get(name)]
        return [*self.shipped.values(), *uploaded]

    def manifest(self, name: str, field: str = "model") -> AnyManifest:
        """By name.

        Raises ServiceError ``unknown_model``, which lists the names there are for whoever asks, or ``not_ready``: it
        is being opened.
        """
        found = self.find(name)
        if found is not None:
            return found
        if name not in self.unloaded and (opening := self._uploads.opening(name)) is not None:
            raise _cannot_be_used(opening, field)
        raise self.unknown(name, field)

    def find(self, name: str) -> AnyManifest | None:
        """By name, if it is in service."""
        shipped = self.shipped.get(name)
        if shipped is not None:
            return shipped
        uploaded = self._uploads.get(name)
        return None if uploaded == self.unloaded.get(name) else uploaded

    def loadable(self, name: str) -> bool:
        """Whether there is a folder for it: a name with a slash or dots in front is none."""
        try:
            folder = self.folder / NAME.validate_python(name)
        except ValidationError:
            return False
        return (folder / MANIFEST_FILE).is_file() or (folder / MODEL_FILE).is_file()

    def unknown(self, name: str, field: str) -> ServiceError:
        known = sorted(manifest.name for manifest in self.manifests())
        why = "has been unloaded" if name in self.visible_unloaded() else "is none of the models"
        message = f"{name[:100]!r} {why}; there are {', '.join(known)}"
        return ServiceError(Code.UNKNOWN_MODEL, message, field=field, known=known)

    def known(self) -> set[str]:
        """Every name whose figures the call under way may see: of models in service or unloaded."""
        with suppress(ServiceError):  # while the job database is away, those of uploads are left out
            return {*self.shipped, *self.visible_unloaded(), *self._uploads.all()}
        return set(self.shipped)


def _cannot_be_used(opening: Opening, field: str) -> ServiceError:
    if opening.state == "failed":
        message = f"{opening.name} was uploaded and refused: {opening.result['message']}"
        return ServiceError(Code.UNKNOWN_MODEL, message, field=field)
    message = f"{opening.name} is being opened; GET /models/{opening.name} says how far that is"
    return ServiceError(Code.NOT_READY, message, components={"models": opening.name})


def verified(folder: Path, manifest: AnyManifest) -> artefact_folders.Artefact:
    """The artefact of this manifest, as it lies in its folder. Raises ArtefactError where it is another by now."""
    artefact = artefact_folders.load(folder)
    if artefact.manifest != manifest:
        raise ArtefactError(f"{folder}: has changed since it was loaded; POST /models/reload takes it in")
    return artefact


def check_kind(manifest: AnyManifest, kind: str, field: str) -> None:
    """Raises ServiceError ``wrong_kind``."""
    if manifest.kind != kind:
        raise ServiceError(
            Code.WRONG_KIND, f"{manifest.name} is a {manifest.kind}, this call needs a {kind}", field=field
        )
