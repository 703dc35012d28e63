"""CROWN: linear functions of the input that bound a network's values, computed backwards from the bounded values.

Zhang et al., "Efficient Neural Network Robustness Certification with General Activation Functions", arXiv 1811.00866.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.bounds.interval import Interval, magnitude, propagate, rounding
from gauntlet.bounds.linear_operators import Linear
from gauntlet.bounds.network import Network, Step
from gauntlet.bounds.nonlinear import Lines
from gauntlet.bounds.region import Region

ROOM = 2**23
"""Largest number of elements of one array of a backward pass: the rows to be bounded are split into chunks for it."""


@dataclass(frozen=True)
class Relaxation:
    """Linear bounds of an activation over intervals of its input: one line where it is linear there, else two.

    ``multipliers`` (2, B, S, U) >= 0 are the Lagrange multipliers of the constraints low <= z <= high on the free
    inputs, which a branch of branch and bound adds: Wang et al., "Beta-CROWN", arXiv 2103.06624.
    """

    slope: Tensor  # (B, n), valid where the activation is linear
    index: Tensor  # (U,): the free inputs, where it is not linear
    lines: Lines  # (B, S, U) each, or a shape that expands to it
    multipliers: Tensor | None = None
    limits: Interval | None = None  # (B, 1, U) each

    def back(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients of the input, for those of the output (B, S, n), and a constant term (B, S)."""
        picked = a[..., self.index]
        up, down = picked.clamp_min(0), picked.clamp_max(0)
        inner = up * self.lines.lower_slope + down * self.lines.upper_slope
        added = (up * self.lines.lower_offset + down * self.lines.upper_offset).sum(2)
        if self.multipliers is not None:
            assert self.limits is not None
            above, below = self.multipliers
            inner = inner - above + below
            added = added + (above * self.limits[0] - below * self.limits[1]).sum(2)
        if len(self.index) == a.shape[2]:
            return inner, added
        return (a * self.slope[:, None]).index_copy(2, self.index, inner), added


@dataclass
class Trace:
    """Records of a backward pass: the coefficients of each activation's outputs (B, S, n) by step, and of the input."""

    outputs: dict[str, Tensor]
    input: Tensor | None = None


def lower_bounds(
    network: Network,
    start: str,
    a: Tensor,
    relaxations: Mapping[str, Relaxation],
    region: Region,
    sizes: Mapping[str, Tensor] | None = None,
    trace: Trace | None = None,
) -> Tensor:
    """Return lower bounds (B, S) of a . (value of the step ``start``), for a (B, S, *shape), over B sets of inputs.

    With ``sizes``, from ``gauntlet.bounds.interval.magnitude``, the bounds are lowered by the rounding error of this
    computation itself: the coefficients of each step have an error of at most gamma |a| |W|.
    """
    pending, total, error = {start: a}, a.new_zeros(a.shape[:2]), a.new_zeros(a.shape[:2])
    for step in reversed(network.steps):
        found = pending.pop(step.name, None)
        if found is None:
            continue
        flat = found.flatten(2)
        if sizes is not None:
            error = error + (flat.abs() @ sizes[step.name].flatten(1)[:, :, None]).squeeze(2)
        if isinstance(step.operator, Linear):
            if step.operator.bias is not None:
                total = total + flat @ step.operator.bias.expand(step.shape).reshape(-1)
            parts = step.operator.transpose(found.flatten(0, 1))
        else:
            if trace is not None:
                trace.outputs[step.name] = flat
            inner, added = relaxations[step.name].back(flat)
            total, parts = total + added, (inner.reshape(-1, *step.shape),)
        for name, part in zip(step.inputs, parts, strict=True):
            shaped = part.reshape(*a.shape[:2], *part.shape[1:])
            pending[name] = pending[name] + shaped if name in pending else shaped
    reached = pending.get(network.input)
    if reached is None:
        reached = a.new_zeros(*a.shape[:2], *network.input_shape)
    if trace is not None:
        trace.input = reached
    total = total + region.minimum(reached)
    if sizes is None:
        return total
    reach = region.magnitude() + (region.eps or 0)
    error = error + (reached.flatten(2).abs() @ reach.flatten(1)[:, :, None]).squeeze(2)
    return total - rounding(network.longest, a.dtype) * (error + total.abs())


@dataclass
class Linearised:
    """A network over one set of inputs, with the interval of every step and the linear bounds of every activation."""

    network: Network
    region: Region
    intervals: dict[str, Interval]  # (1, *shape)
    relaxations: dict[str, Relaxation]
    sizes: dict[str, Tensor]

    def lower(self, rows: Tensor) -> Tensor:
        """Return lower bounds (S,) of rows . output, for rows (S, *output_shape)."""
        parts = [
            lower_bounds(self.network, self.network.output, part[None], self.relaxations, self.region, self.sizes)[0]
            for part in torch.split(rows, chunk(self.network, self.network.output))
        ]
        return torch.cat(parts)


Refine = Callable[[Step, Tensor, Linearised], Interval | None]
"""Function of a step, flat indices (k,) of its values, and the bounds of earlier steps: tighter bounds, (k,) each.

It returns None where they would be too expensive.
"""


def linearise(
    network: Network, region: Region, refine: Refine | None = None, known: Mapping[str, Interval] | None = None
) -> Linearised:
    """Bound every step over one set of inputs, and compute from these intervals the lines of every activation.

    Where intervals are not exact, ``refine`` (by default CROWN itself) bounds the free inputs of activations. All other
    values are bounded by interval arithmetic, intersected with the intervals in ``known``.
    """
    refine, known = refine or crown_interval, known or {}
    state = Linearised(network, region, {network.input: (region.lower, region.upper)}, {}, {})
    users = {name: step for step in network.activations for name in step.inputs}
    for step in network.steps:
        state.intervals[step.name] = propagate(step, state.intervals)
        if step.name in known:
            state.intervals[step.name] = _intersection(state.intervals[step.name], known[step.name])
        state.sizes[step.name] = magnitude(step, state.intervals)
        if isinstance(step.operator, Linear):
            exact = region.eps is None and step.name in network.exact
            if step.name in users and not exact:
                _refine(users[step.name], step, state, refine)
        else:
            state.relaxations[step.name] = relaxation(step, *state.intervals[step.inputs[0]])
    return state


def _intersection(first: Interval, second: Interval) -> Interval:
    return torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])


def _refine(user: Step, step: Step, state: Linearised, refine: Refine) -> None:
    assert not isinstance(user.operator, Linear)
    low, high = state.intervals[step.name]
    index = user.operator.free(low, high).flatten().nonzero().squeeze(1)
    refined = refine(step, index, state) if len(index) else None
    if refined is None:
        return
    flat_low, flat_high = low.flatten().clone(), high.flatten().clone()
    flat_low[index] = torch.maximum(flat_low[index], refined[0])
    flat_high[index] = torch.minimum(flat_high[index], refined[1])
    state.intervals[step.name] = flat_low.view_as(low), flat_high.view_as(high)


def cost(step: Step, index: Tensor, state: Linearised) -> int:
    """Return the number of multiplications that CROWN takes to bound the values at ``index`` (k,) of a step."""
    return 2 * len(index) * state.network.work[step.name]


def crown_interval(
    step: Step, index: Tensor, state: Linearised, check_cancelled: Callable[[], None] = lambda: None
) -> Interval:
    """Return CROWN's bounds of a step's values at flat indices (k,). ``check_cancelled`` runs before each pass."""
    known = state.network, step.name
    found = []
    for a in units(step, index, chunk(*known), state.region.lower.dtype):
        check_cancelled()
        found.append(lower_bounds(*known, a, state.relaxations, state.region, state.sizes)[0])
    low, minus_high = torch.cat(found).view(-1, 2).unbind(1)
    return low, -minus_high


def units(step: Step, index: Tensor, size: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield rows (1, S, *shape) that select values of a step: each value, then its negative.

    S is at most ``size``, but at least two.
    """
    signs = torch.tensor([1.0, -1.0], dtype=dtype)
    for part in torch.split(index, max(1, size // 2)):
        a = torch.zeros(2 * len(part), torch.Size(step.shape).numel(), dtype=dtype)
        a[torch.arange(2 * len(part)), part.repeat_interleave(2)] = signs.repeat(len(part))
        yield a.view(1, 2 * len(part), *step.shape)


def chunk(network: Network, start: str) -> int:
    """Return how many rows one backward pass may have so that no array has more than ROOM elements; at least two."""
    shapes = [network.input_shape, *(network.step[name].shape for name in (*network.ancestors[start], start))]
    return max(2, ROOM // max(torch.Size(shape).numel() for shape in shapes))


def relaxation(step: Step, low: Tensor, high: Tensor) -> Relaxation:
    """Return the default lines of an activation over intervals of its input (B, *shape)."""
    assert not isinstance(step.operator, Linear)
    low, high = low.flatten(1), high.flatten(1)
    index = step.operator.free(low, high).any(0).nonzero().squeeze(1)
    ends = low[:, None, index], high[:, None, index]
    slope = (low >= 0).to(low.dtype)
    return Relaxation(slope, index, step.operator.lines(*ends, step.operator.start(*ends)))
