"""Where a worker computes: the models and evaluation sets of reports, opened when first needed. Imports torch."""

from collections.abc import Mapping

from gauntlet import evalset, pages, store
from gauntlet.errors import ArtefactError
from gauntlet.evalset import EvalSet
from gauntlet.manifest import MANIFEST_FILE
from gauntlet.report.builder import Shard, assemble, join, measure, shards
from gauntlet.report.measure import CHUNK
from gauntlet.report.page import render
from gauntlet.report.schema import CellResult, ReportRequest
from gauntlet.runtime import Classifier, open_model, use_threads
from gauntlet.sandbox.nursery import Limits, Nursery
from service.models.evalsets import EvalSets
from service.models.guests import Guests
from service.models.shelf import Shelf
from service.settings import Settings

__all__ = [
    "CHUNK",
    "CellResult",
    "Laboratory",
    "ReportRequest",
    "Shard",
    "assemble",
    "join",
    "measure",
    "render",
    "shards",
]


class Laboratory:
    """Keeps what it has opened: the next report needs the same."""

    def __init__(self, settings: Settings) -> None:
        use_threads(settings.threads)
        pages.keep()
        self._settings = settings
        self._open: dict[str, Classifier] = {}
        shelf = Shelf(settings.database_url)
        nursery = Nursery(Limits(memory=settings.upload_memory, threads=settings.threads))
        self._guests, self._evalsets = (
            Guests(settings.max_uploads, shelf, nursery),
            EvalSets({}, settings.max_uploads, shelf, nursery),
        )
        self._evalset: EvalSet | None = None

    def models(self, request: ReportRequest, pins: Mapping[str, str]) -> dict[str, Classifier]:
        """Those that the report is about. Raises ArtefactError if one was replaced since it was asked for."""
        return {name: self._model(name, pins[f"models/{name}"]) for name in request.models}

    def _model(self, name: str, sha256: str) -> Classifier:
        found = self._open.get(name)
        if found is None or found.manifest.model_sha256 != sha256:
            found = self._load(name)
        if found.manifest.model_sha256 != sha256:
            raise ArtefactError(f"the model {name} was replaced after the report was asked for; ask for it again")
        return found

    def _load(self, name: str) -> Classifier:
        folder = self._settings.artifacts / name
        if not (folder / MANIFEST_FILE).is_file() and (guest := self._guests.get(name)) is not None:
            return guest  # not kept here: its process may die, and is then started again
        model = open_model(store.load(folder), self._settings.device)
        assert isinstance(model, Classifier)  # the same file was one when the report was asked for
        self._open[name] = model
        return model

    def evalset(self, request: ReportRequest, pins: Mapping[str, str]) -> EvalSet:
        """The images of the report. Raises ArtefactError as ``models`` does."""
        name, sha256 = request.dataset, pins[f"evalsets/{request.dataset}"]
        if self._evalset is None or (self._evalset.name, self._evalset.sha256) != (name, sha256):
            self._evalset = self._read(name, sha256)
        return self._evalset

    def _read(self, name: str, sha256: str) -> EvalSet:
        paths = evalset.find(self._settings.evalsets)
        path = paths.get(name)
        found = evalset.load(path) if path is not None else self._evalsets.get(name)
        if found.sha256 != sha256:
            raise ArtefactError(f"{name} was replaced after the report was asked for; ask for it again")
        return found
