"""Comparison of a quantised model with its float original: answers, robustness, transfer. Runs no network."""

from collections.abc import Iterator, Mapping

import numpy as np

from gauntlet.artifacts.manifest import HasManifest
from gauntlet.norms import Norm
from gauntlet.report import statistics
from gauntlet.report.model_results import Measured, transferred
from gauntlet.report.schema import PrecisionBudget, PrecisionComparison, ReportRequest


def comparisons(
    request: ReportRequest, models: Mapping[str, HasManifest], measured: Mapping[str, Measured]
) -> list[PrecisionComparison]:
    """Return one comparison for each quantised model, if the report has a float model as well.

    If there are several float models, it is compared with the one that gives the most images the same answer: a
    quantised file does not name its original.
    """
    quantised = [name for name in request.models if _is_quantised(models[name])]
    floats = [name for name in request.models if name not in quantised]
    if not floats:
        return []
    return [_comparison(request, name, _nearest(measured, name, floats), models, measured) for name in quantised]


def _is_quantised(model: HasManifest) -> bool:
    return model.manifest.adoption is not None and model.manifest.adoption.quantised


def _same_answers(measured: Mapping[str, Measured], one: str, other: str) -> statistics.Bools:
    same: statistics.Bools = np.asarray(measured[one].clean.labels) == np.asarray(measured[other].clean.labels)
    return same


def _nearest(measured: Mapping[str, Measured], name: str, floats: list[str]) -> str:
    """Return the float model whose answers are most like those of the model called ``name``."""
    return max(floats, key=lambda other: int(_same_answers(measured, name, other).sum()))


def _comparison(
    request: ReportRequest,
    quantised: str,
    original: str,
    models: Mapping[str, HasManifest],
    measured: Mapping[str, Measured],
) -> PrecisionComparison:
    pair = {name: measured[name] for name in (original, quantised)}
    return PrecisionComparison(
        original=original,
        quantised=quantised,
        gradients=models[quantised].manifest.gradients,
        same_answer=statistics.rate(_same_answers(measured, original, quantised)),
        budgets=[entry for threat in request.threats for entry in _budgets(pair, threat.norm, sorted(threat.eps))],
    )


def _budgets(pair: Mapping[str, Measured], norm: Norm, distances: list[float]) -> Iterator[PrecisionBudget]:
    original, quantised = pair
    own = {name: model.smallest(norm) for name, model in pair.items()}
    foreign = {name: transferred(pair, name, norm) for name in pair}
    shared = pair[original].correct & pair[quantised].correct
    for eps in distances:
        yield PrecisionBudget(
            norm=norm,
            eps=eps,
            original=statistics.rate(own[original] > eps),
            quantised=statistics.rate(own[quantised] > eps),
            broken_too=statistics.rate(own[quantised] <= eps, among=shared & (own[original] <= eps)),
            to_quantised=statistics.rate(foreign[quantised] <= eps, among=pair[quantised].correct),
            to_original=statistics.rate(foreign[original] <= eps, among=pair[original].correct),
        )
