"""Building a report: all steps in one function, and the single steps for callers that make each shard durable."""

from collections.abc import Callable, Mapping

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.report.assemble import assemble
from gauntlet.report.measure import measure, nothing
from gauntlet.report.plan import aligned, cells, cost, validate
from gauntlet.report.schema import Report, ReportRequest
from gauntlet.report.shards import Shard, join, shards
from gauntlet.report.time_budget import planned
from gauntlet.runtime.classifier import Classifier

__all__ = ["Shard", "aligned", "assemble", "build", "cells", "cost", "join", "measure", "planned", "shards", "validate"]


def ignore_progress(_: float) -> None:
    """Do nothing: the default ``on_progress``."""


def build(
    request: ReportRequest,
    models: Mapping[str, Classifier],
    evalsets: Mapping[str, EvalSet],
    *,
    on_progress: Callable[[float], None] = ignore_progress,
    check_cancelled: Callable[[], None] = nothing,
) -> Report:
    """Measure every cell and assemble the report. If the request has a time budget, only what fits it is measured.

    ``on_progress`` receives the share of the cost that is done, rising to 1.

    Raises InvalidInput as ``validate`` does, and whatever ``check_cancelled`` raises.
    """
    validate(request, models, evalsets)
    evalset = aligned(request, models, evalsets[request.dataset])
    plan = planned(request, models, evalset)
    request = plan.request
    total, done = cost(request), 0
    results = []
    for cell in cells(request):

        def on_images(images: int, cost: int = cell.cost, done: int = done) -> None:
            on_progress((done + cost * images / request.n) / total)

        results.append(measure(cell, request, models, evalset, check_cancelled=check_cancelled, on_images=on_images))
        done += cell.cost
    return assemble(request, results, models, evalset).model_copy(update={"left_out": list(plan.left_out)})
