"""The figures of a report as plain geometry, in the units of an SVG view box; the template draws and colours them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gauntlet.norms import Norm
from gauntlet.report.schema import Curve, ModelReport, Report
from gauntlet.report.wording import smallest

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 42
ROW = 64  # height of one model's distribution
FADED = 0.01  # an axis ends where every curve has fallen below this

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """Robust accuracy at a requested eps, with its 95 % interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """One model: ``colour`` is its index in the palette; paths are SVG path data, empty if there is no curve."""

    name: str
    colour: int
    robust: str
    certified: str
    smoothed: str
    band: str
    marks: list[Mark]


@dataclass(frozen=True)
class CurveChart:
    norm: Norm
    width: int
    height: int
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    asked: list[float]
    series: list[Series]


@dataclass(frozen=True)
class HistogramRow:
    name: str
    colour: int
    top: float
    base: float
    area: str
    median: float | None
    label: str


@dataclass(frozen=True)
class HistogramChart:
    norm: Norm
    width: int
    height: int
    x_ticks: list[Tick]
    rows: list[HistogramRow]


def ticks(top: float, most: int = 8) -> list[float]:
    """Return round numbers from 0 to at most ``top`` (> 0), no more than ``most`` + 1 of them."""
    raw = top / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [round(step * i, 10) for i in range(math.floor(top / step * (1 + 1e-9)) + 1)]


def _path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


@dataclass(frozen=True)
class _Scale:
    top: float  # the eps at the right edge

    def x(self, eps: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * eps / self.top, 1)

    @staticmethod
    def y(share: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 1)

    def ticks(self) -> list[Tick]:
        return [Tick(self.x(eps), f"{eps:g}") for eps in ticks(self.top)]

    def line(self, curve: Curve | None) -> list[Point]:
        points = [] if curve is None else [point for point in curve.points if point.eps <= self.top]
        return [(self.x(point.eps), self.y(point.rate.value or 0.0)) for point in points]


def curve_charts(report: Report) -> list[CurveChart]:
    """Return one chart per norm in which any model has a curve."""
    norms: list[Norm] = sorted({curve.norm for model in report.models for curve in model.curves})
    return [_curve_chart(report, norm) for norm in norms]


def _curve_chart(report: Report, norm: Norm) -> CurveChart:
    requested = sorted(eps for threat in report.request.threats if threat.norm == norm for eps in threat.eps)
    curves = [curve for model in report.models for curve in model.curves if curve.norm == norm]
    scale = _Scale(_axis_end(curves, requested))
    return CurveChart(
        norm=norm,
        width=WIDTH,
        height=HEIGHT,
        x_ticks=scale.ticks(),
        y_ticks=[Tick(scale.y(share / 4), f"{25 * share} %") for share in range(5)],
        asked=[scale.x(eps) for eps in requested],
        series=[_series(scale, model, place, norm, requested) for place, model in enumerate(report.models)],
    )


def _axis_end(curves: Sequence[Curve], requested: Sequence[float]) -> float:
    """Return the first eps of the curves beyond the requested ones at which every curve is below FADED."""
    alive = [point.eps for curve in curves for point in curve.points if (point.rate.value or 0.0) > FADED]
    beyond = max([*alive, *requested, 0.0])
    points = [point.eps for curve in curves for point in curve.points if point.eps > beyond]
    return min(points, default=beyond) or 1.0


def _series(scale: _Scale, model: ModelReport, place: int, norm: Norm, requested: Sequence[float]) -> Series:
    curves = {curve.kind: curve for curve in model.curves if curve.norm == norm}
    robust, certified = curves.get("robust"), curves.get("certified")
    upper, lower, smoothed = scale.line(robust), scale.line(certified), scale.line(curves.get("smoothed"))
    marked = [] if robust is None else [point for point in robust.points if point.eps in requested]
    return Series(
        name=model.name,
        colour=place,
        robust=_path(upper) if upper else "",
        certified=_path(lower) if lower else "",
        smoothed=_path(smoothed) if smoothed else "",
        band=_path([*upper, *reversed(lower)]) + "Z" if upper and lower else "",
        marks=[
            Mark(
                scale.x(point.eps), scale.y(point.rate.value or 0.0), scale.y(point.rate.low), scale.y(point.rate.high)
            )
            for point in marked
        ],
    )


def histogram_charts(report: Report) -> list[HistogramChart]:
    """Return one chart per norm, with one row per model: the distribution of its smallest successful perturbations."""
    charts = (_histogram_chart(report, norm, edges) for norm, edges in report.edges.items())
    return [chart for chart in charts if chart.rows]


def _histogram_chart(report: Report, norm: Norm, edges: Sequence[float]) -> HistogramChart:
    scale = _Scale(edges[-1])
    rows: list[HistogramRow] = []
    for place, model in enumerate(report.models):
        entry = smallest(model, norm)
        if entry is None:
            continue
        top = TOP + ROW * len(rows)
        base = top + ROW - 8.0
        highest = max(entry.histogram) or 1
        outline: list[Point] = [(scale.x(edges[0]), base)]
        for left, right, count in zip(edges[:-1], edges[1:], entry.histogram, strict=True):
            height = base - (ROW - 26) * count / highest
            outline += [(scale.x(left), height), (scale.x(right), height)]
        outline.append((scale.x(edges[-1]), base))
        median = entry.own.median
        text = f"median {median:.3g}" if median is not None else "median infinite"
        rows.append(
            HistogramRow(
                name=model.name,
                colour=place,
                top=top,
                base=base,
                area=_path(outline) + "Z",
                median=None if median is None else scale.x(median),
                label=f"{text}, {entry.own.n - entry.own.failed} of {entry.own.n} broken",
            )
        )
    height = TOP + ROW * len(rows) + BOTTOM - 8
    return HistogramChart(norm=norm, width=WIDTH, height=height, x_ticks=scale.ticks(), rows=rows)
