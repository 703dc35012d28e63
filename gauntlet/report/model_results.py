"""What was measured of a model, in arrays over the images. Runs no network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gauntlet.norms import Norm
from gauntlet.report import statistics
from gauntlet.report.records import BoundsMeasurement, SmoothedMeasurement
from gauntlet.report.schema import AttackMeasurement, Cell, CellResult, CheckRecord, CleanMeasurement, Probe
from gauntlet.report.statistics import Bools, Floats
from gauntlet.threat import Threat
from gauntlet.unanswered_label import UNANSWERED


@dataclass(frozen=True)
class Measured:
    """All that was measured of one model, in arrays over the n images."""

    y: statistics.Labels
    clean: CleanMeasurement
    checks: list[CheckRecord]
    probe: Probe
    attacks: Mapping[Cell, AttackMeasurement]
    smoothed: SmoothedMeasurement | None
    bounds: BoundsMeasurement | None

    @classmethod
    def of(cls, name: str, results: Sequence[CellResult], y: statistics.Labels) -> "Measured":
        """What the results say of the model."""
        own = [result for result in results if result.cell.model == name]
        (clean,) = (result.clean for result in own if result.clean is not None)
        (checks, probe) = next((result.checks, result.probe) for result in own if result.checks is not None)
        attacks = {result.cell: result.attack for result in own if result.attack is not None}
        smoothed = next((result.smoothed for result in own if result.smoothed is not None), None)
        bounds = next((result.bounds for result in own if result.bounds is not None), None)
        return cls(y, clean, checks, probe or Probe(broken=[], l2=[]), attacks, smoothed, bounds)

    @cached_property
    def unanswered(self) -> list[int]:
        """Indices of the images that the model answers with NaN or infinite numbers."""
        return np.flatnonzero(np.asarray(self.clean.labels) == UNANSWERED).tolist()

    @cached_property
    def correct(self) -> Bools:
        hits: Bools = np.asarray(self.clean.labels) == self.y
        return hits

    @cached_property
    def radii(self) -> Floats:
        """Certified L2 radii; zero where nothing is proved."""
        return np.zeros(len(self.y)) if self.clean.radii is None else np.asarray(self.clean.radii)

    @property
    def proves(self) -> bool:
        """Whether anything is proved of the model itself."""
        return self.clean.radii is not None or self.bounded

    @property
    def bounded(self) -> bool:
        """Whether bounds could be computed."""
        return self.bounds is not None and self.bounds.reason is None

    def _by_bounds(self, norm: Norm) -> Floats:
        """The largest radius of each image (n,) that bounds proved in the norm itself."""
        found = [] if self.bounds is None else [np.asarray(p.radii) for p in self.bounds.radii if p.norm == norm]
        return np.maximum.reduce([np.zeros(len(self.y)), *found])

    @cached_property
    def certified_l2(self) -> Floats:
        """The largest L2 radius of each image (n,) by any method: in Linf at least as much is proved inside it."""
        return np.maximum.reduce([self.radii, self._by_bounds("l2"), self._by_bounds("linf")])

    def certified(self, threat: Threat, shape: tuple[int, int, int]) -> Bools:
        """Which images (n,) of this shape are right, and proved to stay so within the threat, by any method."""
        proved = self.certified_l2 >= threat.enclosing_l2(shape)
        if threat.norm == "linf":
            proved |= self._by_bounds("linf") >= threat.radius
        return self.correct & proved

    @cached_property
    def contradicted(self) -> Bools:
        """Which images (n,) were broken inside a radius that is certified: none, if all proofs hold."""
        inside = (self.measured_l2() < self.certified_l2) | (self.smallest("linf") <= self._by_bounds("linf"))
        return self.correct & (self.certified_l2 > 0) & inside

    def distance(self, cell: Cell, norm: Norm) -> Floats:
        """How far the cell's attack had to go to break each image: 0 if wrong from the start, infinite if it failed."""
        return self._spread(self.attacks[cell].broken, successes(cell, self.attacks[cell], norm))

    def _spread(self, broken: Sequence[int], values: Floats | Sequence[float]) -> Floats:
        spread = np.full(len(self.y), np.inf)
        spread[np.asarray(broken, dtype=np.int64)] = values
        spread[~self.correct] = 0.0
        return spread

    def smallest(self, norm: Norm) -> Floats:
        """The smallest distance over all examples there are, whatever attack and threat they come from."""
        return minimum(self.distance(cell, norm) for cell in self.attacks)

    def measured_l2(self) -> Floats:
        """The smallest L2 distance measured on any example, whatever budget it was made under, the checks' too."""
        found = (self._spread(attack.broken, attack.distances["l2"]) for attack in self.attacks.values())
        return minimum([self.probed_l2(), *found])

    def probed_l2(self) -> Floats:
        """The distances that the checks' own search found."""
        return self._spread(self.probe.broken, self.probe.l2)

    def minimum_norm_cells(self, norm: Norm) -> list[Cell]:
        return [cell for cell in self.attacks if cell.norm == norm and cell.eps is None]


def successes(cell: Cell, attack: AttackMeasurement, norm: Norm) -> Floats:
    """The distances of a cell's successes; within its own budget where it has one, however float32 rounds."""
    found = np.asarray(attack.distances[norm], dtype=np.float64)
    return np.minimum(found, cell.eps) if cell.norm == norm and cell.eps is not None else found


def transferred(measured: Mapping[str, Measured], target: str, norm: Norm) -> Floats:
    """The smallest distance of another model's example that fools the target, where it was right; else infinite."""
    own, best = measured[target], np.full(len(measured[target].y), np.inf)
    for source, other in measured.items():
        for cell, attack in other.attacks.items() if source != target else ():
            broken = np.asarray(attack.broken, dtype=np.int64)
            fooled = misled(attack.transfer[target], own.y[broken])
            np.minimum.at(best, broken[fooled], successes(cell, attack, norm)[fooled])
    best[~own.correct] = np.inf
    return best


def misled(answers: Sequence[int], y: statistics.Labels) -> Bools:
    """Which answers are another class than y (m,); no answer is none."""
    said = np.asarray(answers, dtype=np.int64)
    fooled: Bools = (said != y) & (said != UNANSWERED)
    return fooled


def minimum(distances: Iterable[Floats]) -> Floats:
    smallest: Floats = np.minimum.reduce(list(distances))
    return smallest
