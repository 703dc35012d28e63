"""The main figures of a model: clean accuracy, and robust and certified accuracy at each requested eps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gauntlet.norms import Norm
from gauntlet.report.records import Rate
from gauntlet.report.schema import ModelReport


@dataclass(frozen=True)
class Headline:
    """One accuracy with its 95 % Wilson interval; ``eps`` in pixels of [0, 1]. Clean accuracy has neither norm nor eps.

    ``robust``: under the worst of all attacks run. ``smoothed``: certified for the smoothed classifier.
    """

    kind: Literal["clean", "robust", "certified", "smoothed"]
    norm: Norm | None
    eps: float | None
    rate: Rate

    @property
    def name(self) -> str:
        """Its name, such as ``robust accuracy at linf 0.03``."""
        place = "" if self.eps is None else f" at {self.norm} {self.eps:g}"
        return f"{self.kind} accuracy{place}"


def headlines(model: ModelReport) -> Iterator[Headline]:
    """Yield the main figures of the model, in the order of the report."""
    yield Headline("clean", None, None, model.clean)
    requested = {(entry.norm, entry.eps) for entry in model.robustness}
    for entry in model.robustness:
        if entry.attack is None:
            yield Headline("robust", entry.norm, entry.eps, entry.accuracy)
    for curve in model.curves:
        if curve.kind != "robust":
            for point in curve.points:
                if (curve.norm, point.eps) in requested:
                    yield Headline(curve.kind, curve.norm, point.eps, point.rate)
