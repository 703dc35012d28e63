"""Accuracy over eps, from what attacks found and what is proved. Runs no network."""

from typing import Literal

import numpy as np

from gauntlet.norms import Norm
from gauntlet.report import statistics
from gauntlet.report.measured import Measured
from gauntlet.report.schema import Curve, ReportRequest
from gauntlet.report.statistics import Bools, Floats
from gauntlet.threat import Threat

GRID: dict[Norm, tuple[float, ...]] = {
    "l2": tuple(round(0.05 * step, 2) for step in range(61)),  # 0 .. 3
    "linf": tuple(round(0.005 * step, 3) for step in range(61)),  # 0 .. 0.3
    "l1": tuple(float(step) for step in range(61)),  # 0 .. 60
    "l0": tuple(2.0 * step for step in range(61)),  # 0 .. 120
}
"""Where every curve is evaluated, besides the eps asked for."""


def curves_of(request: ReportRequest, measured: Measured, shape: tuple[int, int, int]) -> list[Curve]:
    """``robust`` in every norm in which a minimum-norm attack ran; what is certified in L2 and in each norm asked for.

    What is proved in L2 holds in another norm as far as its ball, for images of this shape, fits into the L2 ball.
    """
    asked = {threat.norm: threat.eps for threat in request.threats}
    curves = []
    for norm, eps in asked.items():
        if measured.minimum_norm_cells(norm):
            points = statistics.robust_curve(measured.smallest(norm), sorted({*GRID[norm], *eps}))
            curves.append(Curve(kind="robust", norm=norm, derived_from=None, points=points))
    proofs: list[tuple[Literal["certified", "smoothed"], Bools, Floats]] = []
    if measured.clean.radii is not None:
        proofs.append(("certified", measured.correct, measured.radii))
    if measured.smoothed is not None:
        radii = np.asarray(measured.smoothed.radii)
        proofs.append(("smoothed", np.asarray(measured.smoothed.labels) == measured.y[: len(radii)], radii))
    for kind, correct, radii in proofs:
        norms: list[Norm] = list(dict.fromkeys(["l2", *asked]))
        for norm in norms:
            grid = sorted({*GRID[norm], *asked.get(norm, [])})
            needed = {eps: Threat(norm, eps).enclosing_l2(shape) for eps in grid}
            points = statistics.certified_curve(correct, radii, needed)
            derived: Norm | None = None if norm == "l2" else "l2"
            curves.append(Curve(kind=kind, norm=norm, derived_from=derived, points=points))
    return curves
