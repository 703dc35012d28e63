"""Decoupled direction and norm."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, loss, shortfall, value_and_gradient
from gauntlet.randomness import Keyed
from gauntlet.threat import TINY, Threat, l2, per_sample, unit


def ddn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: Keyed,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps")] = 100,
    initial_norm: Annotated[float, Field(gt=0, le=100, description="L2 norm of the first step")] = 1.0,
    gamma: Annotated[float, Field(gt=0, lt=1, description="by how much the norm shrinks or grows each step")] = 0.05,
) -> Tensor:
    """Minimum-norm L2 attack: the direction follows the gradient, the norm shrinks on success and grows on failure.

    Rony et al., "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks and Defenses",
    arXiv 1811.09600; gamma decays with the step, as in FMN (arXiv 2102.12827), so that the norm settles.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    delta = torch.zeros_like(x)
    norm = torch.full_like(y, initial_norm, dtype=x.dtype)
    best, best_norm = x, torch.full_like(norm, torch.inf)
    for step in range(steps + 1):
        point = x + delta
        logits, gradient = value_and_gradient(model, point, lambda z: loss(z, y, targeted))
        won = shortfall(logits, y, targeted) < 0
        smaller = won & (l2(delta) < best_norm)
        best = torch.where(per_sample(smaller, x), point, best)
        best_norm = torch.where(smaller, l2(delta), best_norm)
        if step == steps:
            break
        lost = l2(gradient) <= TINY
        if bool(lost.any()):  # a vanished gradient has no direction: take a random one
            gradient = torch.where(per_sample(lost, x), generator.normal(step, tuple(x.shape[1:])), gradient)
        rate = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        delta = unit(delta + rate * unit(gradient))
        norm = norm * torch.where(won, 1 - rate * gamma, 1 + rate * gamma)
        delta = (x + per_sample(norm, x) * delta).clamp(0, 1) - x
    return best
