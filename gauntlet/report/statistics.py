"""Statistics of a report: rates with their intervals, quantiles that include failures, curves. Pure functions."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gauntlet.report.records import Distribution, Rate
from gauntlet.report.schema import CurvePoint

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]

Z_95 = 1.959963984540054  # two-sided 95 % of the standard normal


def wilson(k: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return the score interval for a proportion of k in n; (0, 1) for n = 0.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927). Unlike the usual
    k/n +- z sqrt(...) it stays inside [0, 1] and has a width at k = 0 and k = n.
    """
    if n == 0:
        return 0.0, 1.0
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    low = 0.0 if k == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high


def rate(hits: Bools, among: Bools | None = None) -> Rate:
    """Return the share of ``hits`` (n,) among all, or among those that a second mask (n,) selects."""
    if among is None:
        among = np.ones_like(hits)
    k, n = int((hits & among).sum()), int(among.sum())
    low, high = wilson(k, n)
    return Rate(value=k / n if n else None, low=low, high=high, k=k, n=n)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def median(values: Floats) -> float | None:
    """Return the median (the mean of the two middle values); None if it is infinite or there are no values."""
    if len(values) == 0:
        return None
    ordered = np.sort(values)
    return _finite(float(ordered[(len(values) - 1) // 2] / 2 + ordered[len(values) // 2] / 2))


def quantile(values: Floats, q: float) -> float | None:
    """Return the smallest value that at least a share q of all does not exceed; None if it is infinite.

    Without interpolation, which is undefined between a finite and an infinite value.
    """
    if len(values) == 0:
        return None
    return _finite(float(np.sort(values)[max(math.ceil(q * len(values)) - 1, 0)]))


def distribution(values: Floats) -> Distribution:
    """Return the quantiles of values (n,), in which a failure is infinite."""
    return Distribution(
        n=len(values),
        failed=int(np.isinf(values).sum()),
        q05=quantile(values, 0.05),
        q25=quantile(values, 0.25),
        median=median(values),
        q75=quantile(values, 0.75),
        q95=quantile(values, 0.95),
    )


def robust_curve(found: Floats, grid: Sequence[float]) -> list[CurvePoint]:
    """Return the share of images that are robust at each eps of ``grid``.

    ``found`` (n,): the smallest distance that broke each image, 0 if it was wrong from the start, infinite if nothing
    broke it. A distance equal to eps is inside the ball.
    """
    return [CurvePoint(eps=eps, rate=rate(found > eps)) for eps in grid]
