"""Building a report: the whole way in a loop, and its steps for those who make each shard durable."""

from collections.abc import Callable, Mapping

from gauntlet.evalset import EvalSet
from gauntlet.report.assemble import assemble
from gauntlet.report.measure import measure, nothing
from gauntlet.report.plan import cells, cost, validate
from gauntlet.report.schema import Report, ReportRequest
from gauntlet.report.shards import Shard, join, shards
from gauntlet.runtime import Classifier

__all__ = ["Shard", "assemble", "build", "cells", "cost", "join", "measure", "shards", "validate"]


def unheard(_: float) -> None:
    """An ``on_progress`` that nobody listens to."""


def build(
    request: ReportRequest,
    models: Mapping[str, Classifier],
    evalsets: Mapping[str, EvalSet],
    *,
    on_progress: Callable[[float], None] = unheard,
    stop: Callable[[], None] = nothing,
) -> Report:
    """Measure every cell and assemble the report. ``on_progress`` hears the share of the cost done, rising to 1.

    Raises InvalidInput as ``validate`` does, and whatever ``stop`` raises.
    """
    validate(request, models, evalsets)
    evalset = evalsets[request.dataset]
    total, done = cost(request), 0
    results = []
    for cell in cells(request):

        def heard(images: int, cost: int = cell.cost, done: int = done) -> None:
            on_progress((done + cost * images / request.n) / total)

        results.append(measure(cell, request, models, evalset, stop=stop, on_images=heard))
        done += cell.cost
    return assemble(request, results, models, evalset)
