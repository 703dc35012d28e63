"""Where a worker computes: the models and evaluation sets of reports, opened when first needed. Imports torch."""

from functools import cached_property

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

    def models(self, request: ReportRequest) -> dict[str, Classifier]:
        """Those that the report is about. Raises ArtefactError if one can no longer be served."""
        for name in request.models:
            if name not in self._open:
                model = open_model(store.load(self._settings.artifacts / name), self._settings.device)
                if not isinstance(model, Classifier):
                    raise ArtefactError(f"{name} is no longer a classifier")
                self._open[name] = model
        return {name: self._open[name] for name in request.models}

    @cached_property
    def evalsets(self) -> dict[str, EvalSet]:
        return evalset.load_all(self._settings.evalsets)
