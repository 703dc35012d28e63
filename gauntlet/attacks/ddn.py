"""DDN: decoupled direction and norm."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, loss, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, per_sample, unit

SMALLEST = 1e-4  # lower limit of the first norm: an image on the boundary has an estimate of zero


@costs(lambda p: p.steps)
def ddn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps")] = 100,
    gamma: Annotated[float, Field(gt=0, lt=1, description="share by which the norm shrinks or grows in a step")] = 0.05,
) -> Tensor:
    """Minimum-norm L2 attack: the direction follows the gradient, the norm shrinks on success and grows on failure.

    Rony et al., "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and Defenses",
    arXiv 1811.09600. As in FMN (Pintor et al., arXiv 2102.12827) the first norm is the first-order estimate of the
    distance, and gamma decays in the second half, so that the norm converges; the cross-entropy is of rescaled logits.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    delta = torch.zeros_like(x)
    logits, slope = value_and_gradient(model, x, lambda z: shortfall(z, y, targeted))
    norm = (shortfall(logits, y, targeted).abs() / l2(slope).clamp_min(TINY)).clamp(SMALLEST, x[0].numel() ** 0.5)
    best, best_norm = x, torch.full_like(norm, torch.inf)
    for step in range(steps + 1):
        point = x + delta
        logits, gradient = value_and_gradient(model, point, lambda z: loss(z, y, targeted))
        won = shortfall(logits, y, targeted) < 0
        size = l2(delta)
        smaller = won & (size < best_norm)
        best = torch.where(per_sample(smaller, x), point, best)
        best_norm = torch.where(smaller, size, best_norm)
        if step == steps:
            break
        gradient = escape(gradient, generator, step)
        rate = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        delta = unit(delta + rate * unit(gradient))
        change = gamma * min(1.0, 2 - 2 * step / steps)
        norm = norm * torch.where(won, 1 - change, 1 + change)
        delta = (x + per_sample(norm, x) * delta).clamp(0, 1) - x
    return best
