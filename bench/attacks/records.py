"""The records of a run, and the tables made of them."""

import statistics
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from gauntlet.artifacts.manifest import Frozen


class Point(Frozen):
    """The result of a contender with a share of its steps."""

    steps: int
    seconds: float
    median: float
    mean: float


class Distances(Frozen):
    """A minimum-norm attack on n images; a failure is an infinite distance, null in JSON."""

    name: str
    ours: bool
    steps: int
    batch: int
    seconds: tuple[float, ...]  # per round
    forwards: float  # passes per image
    backwards: float
    within_cap: bool
    returned: tuple[float, ...]  # L2 of every image as the attack returned it
    nudged: tuple[float, ...]  # L2 after moving failed images outward, as the referee does
    curve: tuple[Point, ...] = ()

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)

    @property
    def failures(self) -> int:
        return self.returned.count(float("inf"))

    @cached_property
    def l2(self) -> Tensor:
        """The distances to compare (n,): a peer's images are moved outward as our referee moves ours."""
        return torch.tensor(self.returned if self.ours else self.nudged, dtype=torch.float64)

    @property
    def mean(self) -> float:
        return float(self.l2.mean())

    @property
    def median(self) -> float:
        return middle(self.l2)


class Robust(Frozen):
    """An ensemble on one model; one value per seed."""

    model: str
    name: str
    ours: bool
    batch: int
    standing: tuple[int, ...]  # correctly classified images that it did not break
    seconds: tuple[float, ...]
    passes: tuple[float, ...]  # forward and backward per image attacked

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)


class Sparse(Frozen):
    """An attack that minimises the number of changed pixels on n images of one model; a failure counts as infinite."""

    model: str
    name: str
    n: int
    passes: float  # per image, counted
    found: int  # images with a success
    median: float
    mean: float  # of the successes


class Standing(Frozen):
    """Of n images, the number that a report's default attacks do not break, and that ``strongest`` does not break."""

    model: str
    norm: str
    eps: float
    n: int
    default: int
    strongest: int
    seconds: float  # of the default attacks, for all eps of the norm


class Reach(Frozen):
    """The distances of one attack on n images, compared with the smallest of all attacks."""

    model: str
    task: str
    name: str
    n: int
    ratio: float | None  # median of its distance over the best; None: it works at a fixed eps
    far: int | None  # images on which it needs over 1 % more than the best
    missed: int  # of the images ``within`` eps that the best breaks there
    within: int
    seconds: float


class Goal(Frozen):
    """A goal, met if ``value`` is at most ``limit``."""

    text: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        return self.value <= self.limit


def middle(values: Tensor) -> float:
    """Compute the median of values (n,); the mean of two middle values is infinite if either is."""
    ordered = values.sort().values
    return float((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def distance_table(results: Sequence[Distances]) -> str:
    """One line per contender, nearest first."""
    head = [
        "attack",
        "steps",
        "batch",
        "seconds",
        "forward",
        "backward",
        "failed",
        "nudged",
        "mean L2",
        "median L2",
    ]
    rows = [
        [
            found.name + ("" if found.within_cap else " (over the cap)"),
            str(found.steps),
            "own" if found.ours else str(found.batch),
            f"{found.time:.1f}",
            f"{found.forwards:.0f}",
            f"{found.backwards:.0f}",
            str(found.failures),
            str(int(found.l2.isinf().sum())),
            f"{found.mean:.4f}",
            f"{found.median:.4f}",
        ]
        for found in _ranked(results)
    ]
    return table(head, rows)


def curve_table(results: Sequence[Distances], shares: Sequence[float]) -> str:
    """One line per contender, nearest first: its results with each share of its steps."""
    head = ["attack; steps: mean L2, seconds", *(f"{share:.3g} of its steps" for share in shares), "all"]
    rows = [
        [found.name, *(f"{point.steps}: {point.mean:.4f}, {point.seconds:.1f} s" for point in found.curve)]
        for found in _ranked(results)
        if len(found.curve) > 1
    ]
    return table(head, rows)


def _ranked(results: Sequence[Distances]) -> list[Distances]:
    """Nearest first."""
    return sorted(results, key=lambda found: (found.mean, found.median))


def goal_table(goals: Sequence[Goal]) -> str:
    """One line per goal."""
    rows = [[goal.text, f"{goal.value:.4g}", f"{goal.limit:.4g}", "yes" if goal.met else "no"] for goal in goals]
    return table(["goal", "measured", "at most", "met"], rows)
