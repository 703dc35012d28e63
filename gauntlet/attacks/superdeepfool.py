"""SuperDeepFool."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Aim, Model, class_by_class, costs, escape, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, per_sample, unblocked

OVERSHOOT = 0.02  # by this share a step goes past the linearised boundary
STALLED = 0.99  # a success that is not shorter by this factor than the last is the end of a sample


@costs(lambda p: p.steps * p.targets + p.halvings)
def superdeepfool(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per class")] = 50,
    targets: Annotated[int, Field(ge=1, le=1_000, description="how many of the nearest other classes to try")] = 3,
    halvings: Annotated[int, Field(ge=0, le=30, description="of the way back at the end, to find the boundary")] = 10,
) -> Tensor:
    """Minimum-norm L2 attack: steps onto the linearised boundary and, once beyond it, projection onto its normal.

    Abdollahpourrostam et al., "Revisiting DeepFool: Generalization and Improvement", arXiv 2303.12481, the variant
    SDF(inf, 1). A sample is finished when the cycle no longer pays; halving the way back ends it. The paper looks at
    every class in every step; here the classes nearest to first order are tried in turn.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    approach = partial(_approach, generator=generator, steps=steps)
    found = class_by_class(model, x, y, threat.norm, targets, False, approach)
    return _back(model, x, y, found, halvings)


def _approach(
    model: Model, x: Tensor, aim: Aim, known: Tensor, *, generator: KeyedRandom, steps: int
) -> tuple[Tensor, Tensor]:
    """The way to one class: each sample's smallest success (B, C, H, W), and its length (B,), inf where none."""
    best, smallest = x, torch.full_like(known, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # what is still going, compacted
    origin, point = x, x
    for step in range(steps + 1):
        logits, gradient = value_and_gradient(model, point, aim.gain)
        won, delta = aim.won(logits), point - origin
        better, going = won & (l2(delta) < smallest[rows]), ~won | (l2(delta) < STALLED * smallest[rows])
        best = best.index_copy(0, rows, torch.where(per_sample(better, point), point, best[rows]))
        smallest = smallest.index_copy(0, rows, torch.where(better, l2(delta), smallest[rows]))
        if step == steps or not bool(going.any()):
            break
        gradient = escape(unblocked(gradient, point), generator.at(rows), aim.number * steps + step)
        square = gradient.flatten(1).square().sum(dim=1).clamp_min(TINY)
        onward = delta + per_sample((1 + OVERSHOOT) * aim.gain(logits).neg() / square, delta) * gradient
        inline = per_sample((delta * gradient).flatten(1).sum(dim=1) / square, delta) * gradient
        point = (origin + torch.where(per_sample(won, delta), inline, onward)).clamp(0, 1)
        model, aim, rows = model.at(going), aim.at(going), rows[going]
        origin, point = origin[going], point[going]
    return best, smallest


def _back(model: Model, x: Tensor, y: Tensor, found: Tensor, halvings: int) -> Tensor:
    """The success nearest to x that halving the line from x (B, C, H, W) to what was found comes upon."""
    lower = torch.zeros_like(y, dtype=x.dtype)
    upper = torch.ones_like(lower)
    for _ in range(halvings):
        middle = (lower + upper) / 2
        with torch.no_grad():
            won = shortfall(model(torch.lerp(x, found, per_sample(middle, x))), y, targeted=False) < 0
        lower, upper = torch.where(won, lower, middle), torch.where(won, middle, upper)
    return torch.lerp(x, found, per_sample(upper, x))
