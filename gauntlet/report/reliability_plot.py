"""Reliability diagrams as plain geometry, in the units of an SVG view box; the template draws and colours them."""

from collections.abc import Iterator
from dataclasses import dataclass

from gauntlet.report.plots import Tick
from gauntlet.report.records import CalibrationReport, ReliabilityBin
from gauntlet.report.schema import Report

SIDE, LEFT, TOP = 200, 40, 8  # side and margins of the square
GAP = 1.0  # between two bars


@dataclass(frozen=True)
class Bar:
    """One bin: a bar as high as its share of right predictions, with its 95 % interval."""

    x: float
    width: float
    y: float
    height: float
    middle: float
    low: float
    high: float
    tooltip: str


@dataclass(frozen=True)
class ReliabilityChart:
    """The square from (left, top) to (right, bottom); its rising diagonal is perfect calibration."""

    name: str
    colour: int
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bars: list[Bar]


def reliability_charts(report: Report) -> list[ReliabilityChart]:
    """Return one chart per model whose probabilities were measured."""
    return [
        _chart(model.name, place, model.calibration)
        for place, model in enumerate(report.models)
        if model.calibration is not None and model.calibration.bins
    ]


def _chart(name: str, place: int, found: CalibrationReport) -> ReliabilityChart:
    quarters = [quarter / 4 for quarter in range(5)]
    return ReliabilityChart(
        name=name,
        colour=place,
        left=LEFT,
        right=LEFT + SIDE,
        top=TOP,
        bottom=TOP + SIDE,
        x_ticks=[Tick(_x(share), f"{share:g}") for share in quarters],
        y_ticks=[Tick(_y(share), f"{100 * share:.0f} %") for share in quarters],
        bars=list(_bars(found.bins)),
    )


def _bars(bins: list[ReliabilityBin]) -> Iterator[Bar]:
    for part in bins:
        share = part.right.value or 0.0
        yield Bar(
            x=_x(part.low),
            width=round(SIDE * (part.high - part.low) - GAP, 1),
            y=_y(share),
            height=round(SIDE * share, 1),
            middle=_x(part.confidence),
            low=_y(part.right.low),
            high=_y(part.right.high),
            tooltip=f"probability {part.low:.2f} to {part.high:.2f}: {part.right.k} of {part.right.n} right, "
            f"mean probability {part.confidence:.3f}",
        )


def _x(share: float) -> float:
    return round(LEFT + SIDE * share, 1)


def _y(share: float) -> float:
    return round(TOP + SIDE * (1 - share), 1)
