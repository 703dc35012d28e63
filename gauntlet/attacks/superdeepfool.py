"""SuperDeepFool."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Aim, Model, class_by_class, costs, escape, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, per_sample, unblocked

OVERSHOOT = 0.02  # share by which a step goes past the linearised boundary
STALLED = 0.99  # a sample stops at a success not shorter than this share of the smallest so far


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
    halvings: Annotated[int, Field(ge=0, le=30, description="bisection steps at the end, back to the boundary")] = 10,
) -> Tensor:
    """Minimum-norm L2 attack: steps onto the linearised boundary and, once beyond it, projection onto its normal.

    Abdollahpourrostam et al., "Revisiting DeepFool: Generalization and Improvement", arXiv 2303.12481, the variant
    SDF(inf, 1). A sample stops when a cycle no longer shortens the perturbation; bisection towards x ends the attack.
    The paper considers every class in every step; here the classes nearest to first order are tried in turn.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    approach = partial(_approach, generator=generator, steps=steps)
    found = class_by_class(model, x, y, threat.norm, targets, False, approach)
    return _bisect(model, x, y, found, halvings)


def _approach(
    model: Model, x: Tensor, aim: Aim, known: Tensor, *, generator: KeyedRandom, steps: int
) -> tuple[Tensor, Tensor]:
    """Attack towards one class: return the smallest successes (B, C, H, W) and their lengths (B,), inf if none."""
    best, smallest = x, torch.full_like(known, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # active samples
    origin, point = x, x
    for step in range(steps + 1):
        logits, gradient = value_and_gradient(model, point, aim.gain)
        won, delta = aim.won(logits), point - origin
        better, active = won & (l2(delta) < smallest[rows]), ~won | (l2(delta) < STALLED * smallest[rows])
        best = best.index_copy(0, rows, torch.where(per_sample(better, point), point, best[rows]))
        smallest = smallest.index_copy(0, rows, torch.where(better, l2(delta), smallest[rows]))
        if step == steps or not bool(active.any()):
            break
        gradient = escape(unblocked(gradient, point), generator.at(rows), aim.number * steps + step)
        square = gradient.flatten(1).square().sum(dim=1).clamp_min(TINY)
        forward = delta + per_sample((1 + OVERSHOOT) * aim.gain(logits).neg() / square, delta) * gradient
        along_normal = per_sample((delta * gradient).flatten(1).sum(dim=1) / square, delta) * gradient
        point = (origin + torch.where(per_sample(won, delta), along_normal, forward)).clamp(0, 1)
        model, aim, rows = model.at(active), aim.at(active), rows[active]
        origin, point = origin[active], point[active]
    return best, smallest


def _bisect(model: Model, x: Tensor, y: Tensor, found: Tensor, halvings: int) -> Tensor:
    """Bisect the line from x to ``found`` (both (B, C, H, W)); return the nearest success on it."""
    lower = torch.zeros_like(y, dtype=x.dtype)
    upper = torch.ones_like(lower)
    for _ in range(halvings):
        middle = (lower + upper) / 2
        with torch.no_grad():
            won = shortfall(model(torch.lerp(x, found, per_sample(middle, x))), y, targeted=False) < 0
        lower, upper = torch.where(won, lower, middle), torch.where(won, middle, upper)
    return torch.lerp(x, found, per_sample(upper, x))
