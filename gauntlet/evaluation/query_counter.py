"""The twin as an attack sees it: every evaluation is counted, and asked for before it is made, and every gradient that
reaches the images is one that can be followed.
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
    """What a run may take at most: seconds from now on, evaluations of any one image."""

    seconds: float = math.inf
    queries: float = math.inf
    _start: float = field(default_factory=time.perf_counter)

    def after(self, queries: int) -> "Budget":
        """What is left once an image has had so many evaluations; the seconds run on."""
        return dataclasses.replace(self, queries=self.queries - queries)

    def check(self, queries: int) -> None:
        """Raise BudgetExhausted where another evaluation of an image that had so many would be too much."""
        if queries >= self.queries or time.perf_counter() - self._start >= self.seconds:
            raise BudgetExhausted(f"{self.seconds:g} s or {self.queries:g} queries of an image are over")


class _Usable(torch.autograd.Function):
    """The same images; what comes back to them is made a usable gradient. Every attack's gradient passes here."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return usable(gradients[0])


@dataclass(frozen=True)
class CountedModel:
    """Images (B, C, H, W) of the samples ``rows`` (B,) to logits (B, K), with gradients that can be followed.

    ``check_cancelled`` ends the run by raising.
    """

    twin: Callable[[Tensor], Tensor]
    queries: Tensor  # (n,) int64, of all samples
    rows: Tensor
    check_cancelled: Callable[[], None]

    def __call__(self, x: Tensor, /) -> Tensor:
        self.check_cancelled()
        self.queries[self.rows] += 1
        seen: Tensor = _Usable.apply(x) if x.requires_grad else x
        return self.twin(seen)

    def at(self, rows: Tensor, /) -> "CountedModel":
        return CountedModel(self.twin, self.queries, self.rows[rows], self.check_cancelled)


@dataclass(frozen=True)
class _Found:
    """The smallest success seen of each image of a batch."""

    x: Tensor  # (B, C, H, W)
    y: Tensor  # (B,)
    targeted: bool
    threat: Threat
    best: Tensor  # (B, C, H, W): x itself where there was none
    size: Tensor  # (B,): inf where there was none

    @torch.no_grad()
    def look(self, rows: Tensor, points: Tensor, logits: Tensor) -> None:
        """Take in points (n, C, H, W) of some rows (n,), and what the model said to them."""
        size = self.threat.size(self.x[rows], points)
        won = shortfall(logits, self.y[rows], self.targeted) < 0
        better = won & (size <= self.threat.radius) & (size < self.size[rows])
        self.size[rows] = torch.where(better, size, self.size[rows])
        self.best[rows] = torch.where(per_sample(better, points), points, self.best[rows])


@dataclass(frozen=True)
class _Watched:
    """A metered model under a budget, whose successes are seen."""

    model: CountedModel
    rows: Tensor  # (B,) of what ``found`` holds
    found: _Found
    budget: Budget

    def __call__(self, x: Tensor, /) -> Tensor:
        self.budget.check(int(self.model.queries[self.model.rows].max()))
        logits = self.model(x)
        self.found.look(self.rows, x.detach(), logits.detach())
        return logits

    def at(self, rows: Tensor, /) -> "_Watched":
        return _Watched(self.model.at(rows), self.rows[rows], self.found, self.budget)


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
    """What the attack returns for x (B, C, H, W), or, where the budget ends it, the smallest successes that it saw.

    And whether it was through.
    """
    unbroken = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    found = _Found(x, y, targeted, threat, x.clone(), unbroken)
    watched = _Watched(model, torch.arange(len(x), device=x.device), found, budget)
    try:
        return attack(watched, x, y, generator=generator), True
    except BudgetExhausted:
        return found.best, False
