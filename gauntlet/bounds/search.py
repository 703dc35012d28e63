"""Projected gradient descent towards an output that satisfies a conjunction, over any box or ball of inputs.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083, with several starts and
steps that shrink. The objective is the most violated inequality of the conjunction.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.bounds.network import Network
from gauntlet.bounds.output_property import Goal
from gauntlet.bounds.region import Region

FIRST, LAST = 0.5, 0.002  # size of the first and of the last step, as a share of each input's range
SHOWN = 4  # candidates of each step that are passed to the judge

Judge = Callable[[Tensor], bool]
"""Takes points (n, *input_shape) that may satisfy a goal; returns True if one of them does."""


def find(
    network: Network, region: Region, goal: Goal, judge: Judge, *, starts: int, steps: int, seed: int, deadline: float
) -> bool:
    """Search for a point that satisfies the goal; return True as soon as ``judge`` accepts one, else False.

    Each conjunction gets ``starts`` starting points, the first at the centre of the region. The search ends after
    ``steps`` steps, or at ``deadline`` (a time of time.perf_counter).
    """
    small, around = network.single, region.to(torch.float32)
    draw = torch.Generator().manual_seed(seed)
    wide = around.upper - around.lower
    noise = torch.rand(starts, len(goal), *network.input_shape, generator=draw)
    noise[0] = 0.5
    x = around.project(around.lower + noise.flatten(0, 1) * wide)
    which = torch.arange(len(goal)).repeat(starts)
    for step in range(steps + 1):
        if time.perf_counter() > deadline:
            break
        x.requires_grad_()
        excess = _excess(goal, which, small(x))
        likely = excess.detach().argsort()[:SHOWN]
        likely = likely[excess.detach()[likely] <= 0]
        if len(likely) and judge(x.detach()[likely].double()):
            return True
        (gradient,) = torch.autograd.grad(excess.sum(), x)
        size = FIRST * (LAST / FIRST) ** (step / steps)
        x = around.project(x.detach() - size * _direction(gradient, around, wide))
    return False


def _excess(goal: Goal, which: Tensor, y: Tensor) -> Tensor:
    """Return each output's excess over the conjunction that its point searches for, ``which`` (n,): (n,)."""
    rows = goal.rows.flatten(2).to(y.dtype)[which]
    return ((rows @ y.flatten(1)[:, :, None]).squeeze(2) - goal.bounds.to(y.dtype)[which]).amax(1)


def _direction(gradient: Tensor, region: Region, wide: Tensor) -> Tensor:
    if region.eps is None:
        return gradient.sign() * wide
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)
    return region.eps * gradient / length.view(-1, *([1] * (gradient.dim() - 1)))
