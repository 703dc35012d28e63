"""The model that an attack gets: the twin, with counted queries, a budget checked before each evaluation, and gradients
without non-finite values.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gauntlet.attacks.base import shortfall, usable
from gauntlet.errors import BudgetExhausted
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, per_sample


@dataclass(frozen=True)
class Budget:
    """The limits of a run: seconds, counted from the creation of this object, and queries per image."""

    seconds: float = math.inf
    queries: float = math.inf
    _start: float = field(default_factory=time.perf_counter)

    def after(self, queries: int) -> "Budget":
        """Return the budget left after so many queries of an image; its clock is not restarted."""
        return dataclasses.replace(self, queries=self.queries - queries)

    def check(self, queries: int) -> None:
        """Raise BudgetExhausted if time is up, or if an image that had ``queries`` evaluations may not have another."""
        if queries >= self.queries or time.perf_counter() - self._start >= self.seconds:
            raise BudgetExhausted(f"the budget of {self.seconds:g} s and {self.queries:g} queries per image is used up")


class _Usable(torch.autograd.Function):
    """The identity, whose backward pass makes the gradient finite (``usable``). Every attack's gradient passes here."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return usable(gradients[0])


@dataclass(frozen=True)
class CountedModel:
    """A function from images (B, C, H, W) of the samples ``rows`` (B,) to logits (B, K) that counts queries.

    Its gradients are finite. ``check_cancelled`` is called before every evaluation and ends the run by raising.
    """

    twin: Callable[[Tensor], Tensor]
    queries: Tensor  # (n,) int64: number of queries of every sample
    rows: Tensor
    check_cancelled: Callable[[], None]

    def __call__(self, x: Tensor, /) -> Tensor:
        self.check_cancelled()
        self.queries[self.rows] += 1
        inputs: Tensor = _Usable.apply(x) if x.requires_grad else x
        return self.twin(inputs)

    def at(self, rows: Tensor, /) -> "CountedModel":
        return CountedModel(self.twin, self.queries, self.rows[rows], self.check_cancelled)


@dataclass(frozen=True)
class _BestSuccesses:
    """The smallest success so far of each image of a batch."""

    x: Tensor  # (B, C, H, W)
    y: Tensor  # (B,)
    targeted: bool
    threat: Threat
    best: Tensor  # (B, C, H, W): x itself where there was none
    size: Tensor  # (B,): inf where there was none

    @torch.no_grad()
    def update(self, rows: Tensor, points: Tensor, logits: Tensor) -> None:
        """Record the successes among the points (n, C, H, W) of some rows (n,), given their logits (n, K)."""
        size = self.threat.size(self.x[rows], points)
        won = shortfall(logits, self.y[rows], self.targeted) < 0
        better = won & (size <= self.threat.radius) & (size < self.size[rows])
        self.size[rows] = torch.where(better, size, self.size[rows])
        self.best[rows] = torch.where(per_sample(better, points), points, self.best[rows])


@dataclass(frozen=True)
class _RecordingModel:
    """A counted model with a budget, which records every success that an attack evaluates."""

    model: CountedModel
    rows: Tensor  # (B,) positions in ``found``
    found: _BestSuccesses
    budget: Budget

    def __call__(self, x: Tensor, /) -> Tensor:
        self.budget.check(int(self.model.queries[self.model.rows].max()))
        logits = self.model(x)
        self.found.update(self.rows, x.detach(), logits.detach())
        return logits

    def at(self, rows: Tensor, /) -> "_RecordingModel":
        return _RecordingModel(self.model.at(rows), self.rows[rows], self.found, self.budget)


def run_within_budget(
    attack: Callable[..., Tensor],
    model: CountedModel,
    x: Tensor,
    y: Tensor,
    generator: KeyedRandom,
    budget: Budget,
    threat: Threat,
    targeted: bool,
) -> tuple[Tensor, bool]:
    """Run the attack on x (B, C, H, W); return its images and whether it finished within the budget.

    If the budget runs out, the images are the smallest successes that the attack evaluated, x itself if none.
    """
    unbroken = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    found = _BestSuccesses(x, y, targeted, threat, x.clone(), unbroken)
    recording = _RecordingModel(model, torch.arange(len(x), device=x.device), found, budget)
    try:
        return attack(recording, x, y, generator=generator), True
    except BudgetExhausted:
        return found.best, False
