"""Plots of distance over time."""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.attacks.records import Distances

mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same bytes
CUT = 2  # distances over this many times the smallest are not drawn


def curves(panels: Mapping[str, Sequence[Distances]]) -> Figure:
    """Plot mean and median L2 over seconds, one row per panel; ours with thick lines, infinite distances left out."""
    figure = Figure(figsize=(13, 5 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 2, squeeze=False)
    for row, (title, results) in zip(grid, panels.items(), strict=True):
        for axis, measure in zip(row, ("mean", "median"), strict=True):
            _draw(axis, results, measure)
            axis.set(xlabel="seconds", ylabel=f"{measure} L2", xscale="log")
        row[0].set_title(title, loc="left", fontsize=9)
        row[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw(axis: Axes, results: Sequence[Distances], measure: str) -> None:
    finite = [value for found in results if math.isfinite(value := getattr(found, measure))]
    highest = CUT * min(finite, default=math.inf)
    for number, found in enumerate(results):
        values = [(point.seconds, getattr(point, measure)) for point in found.curve]
        shown = [(seconds, value) for seconds, value in values if value <= highest]
        axis.plot(
            [seconds for seconds, _ in shown],
            [value for _, value in shown],
            color=f"C{number % 10}",
            linestyle="-" if number < 10 else "--",
            linewidth=2.5 if found.ours else 1,
            marker="o" if found.ours else ".",
            label=found.name,
        )
