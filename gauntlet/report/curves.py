"""Curves of accuracy over eps, from the distances that attacks found and from proofs. Runs no network."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from gauntlet.norms import Norm
from gauntlet.report import statistics
from gauntlet.report.model_results import Measured
from gauntlet.report.schema import Band, Curve, CurvePoint, ReportRequest
from gauntlet.report.statistics import Bools
from gauntlet.threat import Threat

GRID: dict[Norm, tuple[float, ...]] = {
    "l2": tuple(round(0.05 * step, 2) for step in range(61)),  # 0 .. 3
    "linf": tuple(round(0.005 * step, 3) for step in range(61)),  # 0 .. 0.3
    "l1": tuple(float(step) for step in range(61)),  # 0 .. 60
    "l0": tuple(2.0 * step for step in range(61)),  # 0 .. 120
}
"""Eps at which every curve is evaluated, besides those of the request."""


def curves_of(request: ReportRequest, measured: Measured, shape: tuple[int, int, int]) -> list[Curve]:
    """Return ``robust`` curves in every norm with a minimum-norm attack, certified ones in L2 and each requested norm.

    A proof in L2 holds in another norm as far as the ball of that norm, for images of this shape, fits into the L2
    ball. The certified curves use the best proof of each image.
    """
    requested = {threat.norm: threat.eps for threat in request.threats}
    curves = []
    for norm, eps in requested.items():
        if measured.minimum_norm_cells(norm):
            points = statistics.robust_curve(measured.smallest(norm), sorted({*GRID[norm], *eps}))
            curves.append(Curve(kind="robust", norm=norm, derived_from=None, points=points))
    proofs: list[tuple[Literal["certified", "smoothed"], Callable[[Threat], Bools]]] = []
    if measured.proves:
        proofs.append(("certified", lambda threat: measured.certified(threat, shape)))
    if (smoothed := measured.smoothed) is not None:
        radii, right = np.asarray(smoothed.radii), np.asarray(smoothed.labels) == measured.y[: len(smoothed.radii)]
        proofs.append(("smoothed", lambda threat: right & (radii >= threat.enclosing_l2(shape))))
    for kind, proved in proofs:
        norms: list[Norm] = list(dict.fromkeys(["l2", *requested]))
        for norm in norms:
            grid = sorted({*GRID[norm], *requested.get(norm, [])})
            points = [CurvePoint(eps=eps, rate=statistics.rate(proved(Threat(norm, eps)))) for eps in grid]
            own = norm == "l2" or (kind == "certified" and norm == "linf" and measured.bounded)
            curves.append(Curve(kind=kind, norm=norm, derived_from=None if own else "l2", points=points))
    return curves


def bands_of(request: ReportRequest, measured: Measured, shape: tuple[int, int, int]) -> list[Band]:
    """Count the images proved, broken, and neither, at each budget; empty if nothing is proved of the model."""
    bands = []
    for threat in request.threats if measured.proves else ():
        for eps in sorted(threat.eps):
            proved = measured.certified(Threat(threat.norm, eps), shape)
            broken = measured.smallest(threat.norm) <= eps
            counts = {"certified": proved, "broken": broken, "neither": ~(proved | broken)}
            bands.append(Band(norm=threat.norm, eps=eps, **{name: int(hit.sum()) for name, hit in counts.items()}))
    return bands
