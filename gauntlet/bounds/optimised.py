"""Bounds tightened by gradient ascent over the free parameters of linear bounds: alpha-CROWN and beta-CROWN.

Xu et al., "Fast and Complete: Enabling Complete Verification with Rapid and Massively Parallel Incomplete Verifiers",
arXiv 2011.13824, optimise the slopes of the lines; Wang et al., "Beta-CROWN", arXiv 2103.06624, add multipliers for
the constraints of a branch. The ascent runs in float32; the bound of the parameters that it finds is evaluated once in
float64, and lowered by the rounding error of that evaluation.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gauntlet.bounds.crown import ROOM, Linearised, Relaxation, Trace, chunk, lower_bounds, units
from gauntlet.bounds.interval import Interval
from gauntlet.bounds.network import Step
from gauntlet.bounds.nonlinear import Nonlinear
from gauntlet.bounds.region import Region

RATE = 0.1  # learning rate of Adam for the slopes, whose places lie in [0, 1]
MULTIPLIER_RATE = 0.1
DECAY = 0.02  # factor by which both rates fall over a whole ascent


@dataclass(frozen=True)
class Layout:
    """Index of the free inputs of all activations before the step ``start``, concatenated: U of them.

    An input is free if its activation is not linear over the input's interval. The parameters of its lower and of its
    upper line are ``places`` (2, ..., U) in [0, 1], as in ``gauntlet.bounds.nonlinear``.
    """

    state: Linearised
    start: str
    parts: tuple[tuple[Step, slice], ...]

    @classmethod
    def of(cls, state: Linearised, start: str) -> Self:
        parts, total = [], 0
        for step in state.network.activations:
            if step.name == start or step.name in state.network.ancestors[start]:
                size = len(state.relaxations[step.name].index)
                parts.append((step, slice(total, total + size)))
                total += size
        return cls(state, start, tuple(parts))

    @property
    def size(self) -> int:
        return self.parts[-1][1].stop if self.parts else 0

    def limits(self) -> Interval:
        """Return the intervals of the free inputs: lower and upper ends, (U,) each."""
        ends = [
            [end.flatten()[self.state.relaxations[step.name].index] for end in self.state.intervals[step.inputs[0]]]
            for step, _ in self.parts
        ]
        empty = self.state.region.lower.new_zeros(0)
        return torch.cat([empty, *(low for low, _ in ends)]), torch.cat([empty, *(high for _, high in ends)])

    def places(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the default slopes for limits (..., U), as places (2, ..., U)."""
        empty = low.new_zeros(2, *low.shape[:-1], 0)
        return torch.cat([empty, *(_operator(s).start(low[..., part], high[..., part]) for s, part in self.parts)], -1)

    def relaxations(
        self, low: Tensor, high: Tensor, places: Tensor, multipliers: Tensor | None = None
    ) -> dict[str, Relaxation]:
        """Return each activation's relaxation, for limits (B, 1, U) and places and multipliers (2, B, S, U)."""
        found = {}
        for step, part in self.parts:
            fixed = self.state.relaxations[step.name]
            ends = low[..., part], high[..., part]
            found[step.name] = Relaxation(
                fixed.slope.to(low.dtype),
                fixed.index,
                _operator(step).lines(*ends, places[..., part]),
                None if multipliers is None else multipliers[..., part],
                ends,
            )
        return found

    def gaps(self, low: Tensor, high: Tensor, outputs: Mapping[str, Tensor]) -> Tensor:
        """Estimate how much each free input loosens the bound, (B, U): its coefficient times the gap of its lines."""
        found = [low.new_zeros(len(low), 0)]
        for step, part in self.parts:
            ends = low[..., part], high[..., part]
            lines = _operator(step).lines(*ends, _operator(step).start(*ends))
            middle = _operator(step).split(*ends)
            gap = (lines.upper_slope - lines.lower_slope) * middle + lines.upper_offset - lines.lower_offset
            weight = outputs[step.name][..., self.state.relaxations[step.name].index].abs()
            free = _operator(step).free(*ends)
            found.append((weight * gap.clamp_min(0) * free).amax(1))
        return torch.cat(found, -1)

    def cut(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the value at which the interval of each free input is cut in two, for limits (..., U)."""
        return torch.cat([_operator(step).split(low[..., part], high[..., part]) for step, part in self.parts], -1)


def _operator(step: Step) -> Nonlinear:
    assert isinstance(step.operator, Nonlinear)
    return step.operator


@dataclass(frozen=True)
class Branches:
    """B branches with S rows each: limits ``low`` and ``high`` (B, 1, U) float64; the rest float32, (2, B, S, U)."""

    low: Tensor
    high: Tensor
    places: Tensor
    multipliers: Tensor


@dataclass(frozen=True)
class Ascent:
    """The result of an ascent: sound bounds (B, S), and the parameters and the backward pass that give them."""

    bounds: Tensor
    places: Tensor
    multipliers: Tensor
    trace: Trace


def ascend(
    layout: Layout,
    region: Region,
    rows: Tensor,
    branches: Branches,
    steps: int,
    enough: Tensor | None = None,
    deadline: float = math.inf,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Ascent:
    """Maximise lower bounds of rows (B, S, *shape) . value of the layout's step, over ``region`` (of B sets, or 1).

    With ``enough`` (B, S) the ascent ends as soon as every branch has a row whose bound exceeds it. It also ends at the
    deadline, a time of time.perf_counter. ``check_cancelled`` runs at every step and ends the ascent by raising.
    """
    places, multipliers = branches.places.clone(), branches.multipliers.clone()
    if steps > 0 and layout.size > 0:
        places, multipliers = _search(layout, region, rows, branches, steps, enough, deadline, check_cancelled)
    trace = Trace({})
    with torch.no_grad():
        exact = branches.low, branches.high, places.double().clamp(0, 1), multipliers.double().clamp_min(0)
        network, state = layout.state.network, layout.state
        bounds = lower_bounds(network, layout.start, rows, layout.relaxations(*exact), region, state.sizes, trace)
    return Ascent(bounds, places, multipliers, trace)


def _search(
    layout: Layout,
    region: Region,
    rows: Tensor,
    branches: Branches,
    steps: int,
    enough: Tensor | None,
    deadline: float,
    check_cancelled: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Return the places and multipliers with the best bound of all steps, in float32."""
    network, start = layout.state.network.single, layout.start
    small, a = region.to(torch.float32), rows.float()
    low, high = branches.low.float(), branches.high.float()
    root_low, root_high = (end.float() for end in layout.limits())
    cuts = torch.stack([low > root_low, high < root_high])
    branched = bool(cuts.any())
    places, multipliers = (part.clone().requires_grad_() for part in (branches.places, branches.multipliers))
    variables = [{"params": [places], "lr": RATE}]
    if branched:
        variables.append({"params": [multipliers], "lr": MULTIPLIER_RATE})
    adam = torch.optim.Adam(variables, maximize=True)
    best = torch.full(a.shape[:2], -torch.inf)
    kept_places, kept_multipliers = places.detach().clone(), multipliers.detach().clone()
    for _ in range(steps):
        check_cancelled()
        used = multipliers if branched else None
        bounds = lower_bounds(network, start, a, layout.relaxations(low, high, places, used), small)
        better = (bounds.detach() > best)[..., None]
        best = torch.maximum(best, bounds.detach())
        kept_places = torch.where(better, places.detach(), kept_places)
        kept_multipliers = torch.where(better, multipliers.detach(), kept_multipliers)
        done = enough is not None and bool((best > enough).any(1).all())
        if done or time.perf_counter() > deadline:
            break
        adam.zero_grad()
        torch.autograd.backward(bounds.sum())
        adam.step()
        with torch.no_grad():
            places.clamp_(0, 1)
            multipliers.clamp_(min=0).mul_(cuts)
        for group in adam.param_groups:
            group["lr"] *= DECAY ** (1 / steps)
    return kept_places, kept_multipliers


@torch.no_grad()
def glance(layout: Layout, region: Region, rows: Tensor, branches: Branches) -> Tensor:
    """Return the bounds (B, S) before any step of an ascent, in float32: not sound, used only to compare branches."""
    found = layout.relaxations(branches.low.float(), branches.high.float(), branches.places, branches.multipliers)
    return lower_bounds(layout.state.network.single, layout.start, rows.float(), found, region.to(torch.float32))


def root(layout: Layout, rows: int) -> Branches:
    """Return the whole region as the only branch, with ``rows`` rows, at the default slopes."""
    low, high = (end[None, None] for end in layout.limits())
    places = layout.places(low, high).float().expand(2, 1, rows, layout.size)
    return Branches(low, high, places, torch.zeros_like(places))


def optimised_interval(
    step: Step,
    index: Tensor,
    state: Linearised,
    *,
    steps: int = 20,
    deadline: float = math.inf,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Interval:
    """Return alpha-CROWN's bounds of some values of a step, at flat indices ``index`` (k,): each has its own slopes."""
    layout = Layout.of(state, step.name)
    size = max(2, min(chunk(state.network, step.name), ROOM // max(1, layout.size)))
    found = []
    for rows in units(step, index, size, state.region.lower.dtype):
        start = root(layout, rows.shape[1])
        done = ascend(layout, state.region, rows, start, steps, None, deadline, check_cancelled)
        found.append(done.bounds[0])
    low, minus_high = torch.cat(found).view(-1, 2).unbind(1)
    return low, -minus_high
