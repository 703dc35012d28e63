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
from service.settings import Settings

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

    def models(self, request: ReportRequest, pins: Mapping[str, str]) -> dict[str, Classifier]:
        """Those that the report is about. Raises ArtefactError if one was replaced since it was asked for."""
        for name in request.models:
            known = self._open.get(name)
            if known is None or known.manifest.model_sha256 != pins[f"models/{name}"]:
                self._open[name] = self._load(name, pins[f"models/{name}"])
        return {name: self._open[name] for name in request.models}

    def _load(self, name: str, sha256: str) -> Classifier:
        artefact = store.load(self._settings.artifacts / name)
        if artefact.manifest.model_sha256 != sha256:
            raise ArtefactError(f"the model {name} was replaced after the report was asked for; ask for it again")
        model = open_model(artefact, self._settings.device)
        assert isinstance(model, Classifier)  # the same file was one when the report was asked for
        return model

    def evalset(self, request: ReportRequest, pins: Mapping[str, str]) -> EvalSet:
        """The images of the report. Raises ArtefactError as ``models`` does."""
        paths = evalset.find(self._settings.evalsets)
        if request.dataset not in paths:
            raise ArtefactError(evalset.missing(request.dataset, paths))
        found = evalset.load(paths[request.dataset])
        if found.sha256 != pins[f"evalsets/{request.dataset}"]:
            raise ArtefactError(f"{request.dataset} was replaced after the report was asked for; ask for it again")
        return found
