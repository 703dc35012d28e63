"""Fast minimum norm."""

import math
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, escape, nearest_classes, shortfall, value_and_gradient
from gauntlet.norms import Norm
from gauntlet.randomness import Keyed
from gauntlet.threat import Threat, length, per_sample, unblocked

SMALLEST = 1e-4  # first radius, at least: an image on the boundary has an estimate of zero
CHANGE = 0.3  # a step changes the radius by at most this share of it
BEYOND = 0.01  # by this share, at first, the radius aims past the boundary: a success lies beyond it
FINEST = 0.01  # last step, as a share of the first
LOOK = 0.25  # of the steps are taken before a class is given up ...
HOPELESS = 1.05  # ... where its smallest success is more than this times as long as another's


def fmn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: Keyed,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per class")] = 40,
    targets: Annotated[int, Field(ge=1, le=1_000, description="how many of the nearest other classes to try")] = 3,
    step_size: Annotated[
        float, Field(gt=0, le=100, description="first step, as a share of the perturbation; it decays to a hundredth")
    ] = 2.0,
) -> Tensor:
    """Minimum-norm attack: steps up the difference of two logits, projected to a ball that ends at the boundary.

    Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", arXiv 2102.12827. Theirs
    are the objective, the projection, the cosine decay and the first-order estimate of the radius; here the estimate
    is made at every step, steps are relative to the perturbation, and the classes nearest to first order are tried in
    turn, because the nearest way out of y leads to one of them. Without a class to aim at, any class but y counts.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    best, smallest = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    goals = y[:, None] if targeted else nearest_classes(model, x, y, threat.norm, targets)
    for number, goal in enumerate(goals.unbind(1)):
        labels = goal[:, None] if targeted else torch.stack([y, goal], dim=1)
        aim = labels, targeted, threat.norm
        point, size = _approach(model, x, *aim, generator, number * steps, steps, step_size, smallest)
        shorter = size < smallest
        best = torch.where(per_sample(shorter, x), point, best)
        smallest = torch.where(shorter, size, smallest)
    return best


def _approach(
    model: Model,
    x: Tensor,
    labels: Tensor,
    targeted: bool,
    norm: Norm,
    generator: Keyed,
    first_draw: int,
    steps: int,
    step_size: float,
    known: Tensor,
) -> tuple[Tensor, Tensor]:
    """The way to one class: each sample's smallest success (B, C, H, W), and its length (B,), inf where none.

    ``labels`` (B, 1) is the target, or (B, 2) the class to leave and the one to aim at; ``known`` (B,) are the lengths
    of the smallest successes so far.
    """
    best, smallest = x, torch.full_like(known, torch.inf)
    rows, origin, delta = (
        torch.arange(len(x), device=x.device),
        x,
        torch.zeros_like(x),
    )  # what is still going, compacted
    for step in range(steps + 1):
        point, cosine = origin + delta, (1 + math.cos(math.pi * step / steps)) / 2
        logits, gradient = value_and_gradient(model, point, partial(_objective, labels=labels, targeted=targeted))
        short, size = shortfall(logits, labels[:, 0], targeted), length(delta, norm)
        better = (short < 0) & (size < smallest[rows])
        best = best.index_copy(0, rows, torch.where(per_sample(better, point), point, best[rows]))
        smallest = smallest.index_copy(0, rows, torch.where(better, size, smallest[rows]))
        if step == steps:
            break
        gradient = escape(unblocked(gradient, point), generator, first_draw + step)
        radius = _radius(short, gradient, point, delta, size, norm, cosine)
        rate = step_size * (FINEST + (1 - FINEST) * cosine)
    return best, smallest
