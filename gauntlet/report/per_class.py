"""The results class by class: an average hides the class that an attacker would choose. Runs no network."""

from collections import Counter

import numpy as np

from gauntlet.report import statistics
from gauntlet.report.model_results import Measured
from gauntlet.report.schema import ClassBudget, ClassReport, ReportRequest
from gauntlet.threat import Threat


def by_class(
    request: ReportRequest, measured: Measured, classes: int, shape: tuple[int, int, int]
) -> list[ClassReport]:
    """Return one entry per class that has images. ``classes``: how many there are; ``shape``: of an image (C, H, W)."""
    threats = [Threat(spec.norm, eps) for spec in request.threats for eps in sorted(spec.eps)]
    return [
        ClassReport(
            label=label,
            clean=statistics.rate(measured.correct, among=measured.y == label),
            budgets=[_budget_at(measured, threat, label, shape) for threat in threats],
            taken_for=_taken_for(measured, label),
        )
        for label in range(classes)
        if (measured.y == label).any()
    ]


def weakest(classes: list[ClassReport], most: int) -> list[ClassReport]:
    """Return all classes by number or, of more than ``most``, those of least robust accuracy, summed over budgets."""

    def robustness(one: ClassReport) -> float:
        return sum(budget.robust.k / budget.robust.n for budget in one.budgets)

    selected = sorted(classes, key=robustness)[:most]
    return sorted(selected, key=lambda one: one.label)


def _budget_at(measured: Measured, threat: Threat, label: int, shape: tuple[int, int, int]) -> ClassBudget:
    among, certified = measured.y == label, None
    if measured.proves:
        certified = statistics.rate(measured.certified(threat, shape), among=among)
    robust = measured.smallest(threat.norm) > threat.radius
    return ClassBudget(
        norm=threat.norm, eps=threat.radius, robust=statistics.rate(robust, among=among), certified=certified
    )


def _taken_for(measured: Measured, label: int) -> int | None:
    """Return the class that attacks most often turned this one into; the smaller of two equally frequent ones."""
    counts: Counter[int] = Counter()
    for attack in measured.attacks.values():
        own = measured.y[np.asarray(attack.broken, dtype=np.int64)] == label
        counts.update(np.asarray(attack.labels, dtype=np.int64)[own].tolist())
    return min(counts, key=lambda other: (-counts[other], other), default=None)
