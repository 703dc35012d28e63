"""Interval arithmetic: Gowal et al., "On the Effectiveness of Interval Bound Propagation", arXiv 1810.12715.

The bounds include rounding errors. A sum of n products computed in floating point lies within gamma_n = n u / (1 - n u)
of the exact sum, relative to the sum of absolute values (Higham, "Accuracy and Stability of Numerical Algorithms",
section 3.1); ``rounding`` is four times that, to cover the few operations around the sum.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from gauntlet.bounds.linear_operators import Linear
from gauntlet.bounds.network import Network, Step
from gauntlet.bounds.region import Region

ROOM = 2**19  # largest number of elements of one array
Interval = tuple[Tensor, Tensor]  # lower and upper end, (B, *shape) each


def rounding(terms: int, dtype: torch.dtype = torch.float64) -> float:
    """Return a bound of the relative error of a sum of ``terms`` products."""
    return 2 * torch.finfo(dtype).eps * (terms + 10)


def interval_excess(network: Network, region: Region, rows: Tensor) -> Tensor:
    """Return lower bounds (B, S) of rows . output over each set of inputs, for rows (B, S, *output_shape).

    The linear steps at the end of the network are merged with the rows, which is tighter than bounding each output
    alone.
    """
    return torch.cat([_excess(network, region[part], rows[part]) for part in _parts(network, region)])


def _parts(network: Network, region: Region) -> list[slice]:
    size = max(1, ROOM // network.longest)
    return [slice(first, first + size) for first in range(0, len(region), size)]


def _intervals(network: Network, region: Region) -> dict[str, Interval]:
    intervals: dict[str, Interval] = {network.input: (region.lower, region.upper)}
    for step in network.steps:
        if step.name in network.intervals:
            intervals[step.name] = propagate(step, intervals)
    return intervals


def _excess(network: Network, region: Region, rows: Tensor) -> Tensor:
    intervals, name, a = _intervals(network, region), network.output, rows
    total, error = rows.new_zeros(rows.shape[:2]), rows.new_zeros(rows.shape[:2])
    while name != network.input and isinstance((step := network.step[name]).operator, Linear) and len(step.inputs) == 1:
        if step.monotone:  # its inputs may have no intervals: only the monotone function's inputs have
            break
        error = error + _dot(a.abs(), magnitude(step, intervals))
        if step.operator.bias is not None:
            total = total + _dot(a, step.operator.bias.expand(1, *step.shape))
        (back,) = step.operator.transpose(a.flatten(0, 1))
        name, a = step.inputs[0], back.reshape(*a.shape[:2], *back.shape[1:])
    low, high = intervals[name]
    error = error + _dot(a.abs(), torch.maximum(low.abs(), high.abs()))
    inside = _dot(a.clamp_min(0), low) + _dot(a.clamp_max(0), high)
    least = region.minimum(a) if name == network.input else inside
    return total + least - rounding(network.longest, a.dtype) * (error + (total + least).abs())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the dot products (B, S) of a (B, S, *shape) and b (B, *shape)."""
    return (a.flatten(2) @ b.flatten(1)[:, :, None]).squeeze(2)


def propagate(step: Step, intervals: Mapping[str, Interval]) -> Interval:
    """Return the interval of a step, computed from the intervals of its inputs."""
    if step.monotone:
        ends = [intervals[name] for name in step.monotone.inputs]
        return step.monotone.function(*(e[0] for e in ends)), step.monotone.function(*(e[1] for e in ends))
    given = [intervals[name] for name in step.inputs]
    if not isinstance(step.operator, Linear):
        return step.operator.enclose(*given[0])
    return _linear(step.operator, given)


def _linear(operator: Linear, given: list[Interval]) -> Interval:
    gamma = rounding(operator.terms, given[0][0].dtype)
    centres = [(low + high) / 2 for low, high in given]
    radii = [
        torch.maximum(high - centre, centre - low).add_(centre.abs(), alpha=gamma)
        for (low, high), centre in zip(given, centres, strict=True)
    ]
    centre, radius = operator.apply(*centres), operator.magnitude(*radii) * (1 + gamma)
    if operator.bias is not None:
        centre, radius = centre + operator.bias, radius + gamma * operator.bias.abs()
    return centre - radius, centre + radius


def magnitude(step: Step, intervals: Mapping[str, Interval]) -> Tensor:
    """Return the magnitude that a step's rounding error is relative to: |W| |x| + |b|, or |x| + 1 for an activation."""
    given = [torch.maximum(low.abs(), high.abs()) for low, high in (intervals[name] for name in step.inputs)]
    if not isinstance(step.operator, Linear):
        return given[0] + 1
    size = step.operator.magnitude(*given)
    return size if step.operator.bias is None else size + step.operator.bias.abs()
