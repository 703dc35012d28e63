"""Where a worker computes: the models and evaluation sets of reports, opened when first needed. Imports torch."""

from collections.abc import Mapping

import torch

from gauntlet import evalset, store
from gauntlet.errors import ArtefactError
from gauntlet.evalset import EvalSet
from gauntlet.report.builder import assemble, cells, cost, measure
from gauntlet.report.measure import CHUNK
from gauntlet.report.page import render
from gauntlet.report.schema import Cell, CellResult, Report, ReportRequest
from gauntlet.runtime import Classifier, open_model
from gauntlet.sandbox.nursery import Limits, Nursery
from service.evalsets import EvalSets
from service.guests import Guests
from service.settings import Settings
from service.shelf import Shelf

__all__ = [
    "CHUNK",
    "Cell",
    "CellResult",
    "Laboratory",
    "Report",
    "ReportRequest",
    "assemble",
    "cells",
    "cost",
    "measure",
    "render",
]


class Laboratory:
    """Keeps what it has opened: the next report needs the same."""

    def __init__(self, settings: Settings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings = settings
        self._open: dict[str, Classifier] = {}
        shelf = Shelf(settings.database_url)
        nursery = Nursery(Limits(memory=settings.upload_memory, threads=settings.threads))
        self._guests, self._evalsets = (
            Guests(settings.max_uploads, shelf, nursery),
            EvalSets({}, settings.max_uploads, shelf, nursery),
        )

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
        if not folder.exists() and (guest := self._guests.get(name)) is not None:
            return guest  # not kept here: its process may die, and is then started again
        model = open_model(store.load(folder), self._settings.device)
        assert isinstance(model, Classifier)  # the same file was one when the report was asked for
        self._open[name] = model
        return model

    def evalset(self, request: ReportRequest, pins: Mapping[str, str]) -> EvalSet:
        """The images of the report. Raises ArtefactError as ``models`` does."""
        paths = evalset.find(self._settings.evalsets)
        path = paths.get(request.dataset)
        found = evalset.load(path) if path is not None else self._evalsets.get(request.dataset)
        if found.sha256 != pins[f"evalsets/{request.dataset}"]:
            raise ArtefactError(f"{request.dataset} was replaced after the report was asked for; ask for it again")
        return found
