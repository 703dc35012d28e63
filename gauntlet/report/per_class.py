"""A report class by class: an average hides the class that an attacker would choose. Runs no network."""

from collections import Counter

import numpy as np

from gauntlet.report import statistics
from gauntlet.report.model_results import Measured
from gauntlet.report.schema import ClassBudget, ClassReport, ReportRequest
from gauntlet.threat import Threat


def by_class(
    request: ReportRequest, measured: Measured, classes: int, shape: tuple[int, int, int]
) -> list[ClassReport]:
    """One entry per class that has images, of this shape."""
    threats = [Threat(spec.norm, eps) for spec in request.threats for eps in sorted(spec.eps)]
    return [
        ClassReport(
            label=label,
            clean=statistics.rate(measured.correct, among=measured.y == label),
            budgets=[_at(measured, threat, label, shape) for threat in threats],
            taken_for=_taken_for(measured, label),
        )
        for label in range(classes)
        if (measured.y == label).any()
    ]


def weakest(classes: list[ClassReport], most: int) -> list[ClassReport]:
    """All, by number; or of more than ``most`` those whose images stand least, at all budgets together."""

    def standing(one: ClassReport) -> float:
        return sum(budget.robust.k / budget.robust.n for budget in one.budgets)

    kept = sorted(classes, key=standing)[:most]
    return sorted(kept, key=lambda one: one.label)


def _at(measured: Measured, threat: Threat, label: int, shape: tuple[int, int, int]) -> ClassBudget:
    among, certified = measured.y == label, None
    if measured.proves:
        certified = statistics.rate(measured.certified(threat, shape), among=among)
    standing = measured.smallest(threat.norm) > threat.radius
    return ClassBudget(
        norm=threat.norm, eps=threat.radius, robust=statistics.rate(standing, among=among), certified=certified
    )


def _taken_for(measured: Measured, label: int) -> int | None:
    """The class that attacks most often made of this one; the smaller of two equally frequent ones."""
    called: Counter[int] = Counter()
    for attack in measured.attacks.values():
        own = measured.y[np.asarray(attack.broken, dtype=np.int64)] == label
        called.update(np.asarray(attack.labels, dtype=np.int64)[own].tolist())
    return min(called, key=lambda other: (-called[other], other), default=None)
