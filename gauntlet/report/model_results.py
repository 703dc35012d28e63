"""The measurements of one model as arrays over the images. Runs no network."""

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
    """All measurements of one model, as arrays over the n images; ``y`` holds the true labels (n,)."""

    y: statistics.Labels
    clean: CleanMeasurement
    checks: list[CheckRecord]
    probe: Probe
    attacks: Mapping[Cell, AttackMeasurement]
    smoothed: SmoothedMeasurement | None
    bounds: BoundsMeasurement | None

    @classmethod
    def of(cls, name: str, results: Sequence[CellResult], y: statistics.Labels) -> "Measured":
        """Collect the results of the model called ``name``."""
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
        """Which images (n,) are classified correctly."""
        hits: Bools = np.asarray(self.clean.labels) == self.y
        return hits

    @cached_property
    def radii(self) -> Floats:
        """Certified L2 radii (n,) of the model's certificate; zero where nothing is proved."""
        return np.zeros(len(self.y)) if self.clean.radii is None else np.asarray(self.clean.radii)

    @property
    def proves(self) -> bool:
        """Whether there is any proof about the model itself (not about its smoothed classifier)."""
        return self.clean.radii is not None or self.bounded

    @property
    def bounded(self) -> bool:
        """Whether bounds were requested and could be computed."""
        return self.bounds is not None and self.bounds.reason is None

    def _by_bounds(self, norm: Norm) -> Floats:
        """Return the largest radius of each image (n,) that bounds proved in the norm itself."""
        found = [] if self.bounds is None else [np.asarray(p.radii) for p in self.bounds.radii if p.norm == norm]
        return np.maximum.reduce([np.zeros(len(self.y)), *found])

    @cached_property
    def certified_l2(self) -> Floats:
        """The largest L2 radius of each image (n,) by any method: an Linf ball contains the L2 ball of its radius."""
        return np.maximum.reduce([self.radii, self._by_bounds("l2"), self._by_bounds("linf")])

    def certified(self, threat: Threat, shape: tuple[int, int, int]) -> Bools:
        """Return which images (n,) are classified correctly, and proved by any method to stay so within the threat."""
        proved = self.certified_l2 >= threat.enclosing_l2(shape)
        if threat.norm == "linf":
            proved |= self._by_bounds("linf") >= threat.radius
        return self.correct & proved

    @cached_property
    def contradicted(self) -> Bools:
        """Which images (n,) were broken inside a certified radius: none, if all proofs hold."""
        inside = (self.measured_l2() < self.certified_l2) | (self.smallest("linf") <= self._by_bounds("linf"))
        return self.correct & (self.certified_l2 > 0) & inside

    def distance(self, cell: Cell, norm: Norm) -> Floats:
        """Return the distances (n,) of the attack's examples: 0 if wrong from the start, inf if the attack failed."""
        return self._spread(self.attacks[cell].broken, successes(cell, self.attacks[cell], norm))

    def _spread(self, broken: Sequence[int], values: Floats | Sequence[float]) -> Floats:
        """Return an array (n,) with the values at the broken images, 0 where wrong from the start, inf elsewhere."""
        spread = np.full(len(self.y), np.inf)
        spread[np.asarray(broken, dtype=np.int64)] = values
        spread[~self.correct] = 0.0
        return spread

    def smallest(self, norm: Norm) -> Floats:
        """Return the smallest distance (n,) over all examples, whichever attack and threat they come from."""
        return minimum(self.distance(cell, norm) for cell in self.attacks)

    def measured_l2(self) -> Floats:
        """Return the smallest L2 distance (n,) of any example, made under any budget, those of the checks included."""
        found = (self._spread(attack.broken, attack.distances["l2"]) for attack in self.attacks.values())
        return minimum([self.probed_l2(), *found])

    def probed_l2(self) -> Floats:
        """Return the L2 distances (n,) that the checks' own search found."""
        return self._spread(self.probe.broken, self.probe.l2)

    def minimum_norm_cells(self, norm: Norm) -> list[Cell]:
        """Return the cells of the minimum-norm attacks that ran in the norm."""
        return [cell for cell in self.attacks if cell.norm == norm and cell.eps is None]


def successes(cell: Cell, attack: AttackMeasurement, norm: Norm) -> Floats:
    """Return the distances of a cell's successes, at most the cell's own budget, which float32 rounding may exceed."""
    found = np.asarray(attack.distances[norm], dtype=np.float64)
    return np.minimum(found, cell.eps) if cell.norm == norm and cell.eps is not None else found


def transferred(measured: Mapping[str, Measured], target: str, norm: Norm) -> Floats:
    """Return the smallest distance (n,) of any other model's example that fools the target; inf without one."""
    own, best = measured[target], np.full(len(measured[target].y), np.inf)
    for source, other in measured.items():
        for cell, attack in other.attacks.items() if source != target else ():
            broken = np.asarray(attack.broken, dtype=np.int64)
            fooled = misled(attack.transfer[target], own.y[broken])
            np.minimum.at(best, broken[fooled], successes(cell, attack, norm)[fooled])
    best[~own.correct] = np.inf
    return best


def misled(answers: Sequence[int], y: statistics.Labels) -> Bools:
    """Return which answers are another class than y (m,); a missing answer is not one."""
    predicted = np.asarray(answers, dtype=np.int64)
    fooled: Bools = (predicted != y) & (predicted != UNANSWERED)
    return fooled


def minimum(distances: Iterable[Floats]) -> Floats:
    """Return the element-wise minimum of arrays (n,)."""
    smallest: Floats = np.minimum.reduce(list(distances))
    return smallest
