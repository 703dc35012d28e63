"""Sigma-zero: descent on a smooth stand-in for the number of pixels that are changed."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, decayed, escape, shortfall, span
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, length, per_sample

SOFTNESS = 1e-3  # of the stand-in: a pixel counts d / (d + SOFTNESS), d the square of its change
SPAN = 20.0  # of the logits at x, to which all are scaled: the margin competes with the count of pixels
RATES = (0.9, 0.999)  # Adam's
THRESHOLD, THRESHOLD_STEP = 0.3, 0.01  # the smallest change of a pixel that stays: at first, and how it adapts


@costs(lambda p: p.steps)
def sigma_zero(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps")] = 120,
    step_size: Annotated[float, Field(gt=0, le=100, description="first step of Adam; it decays to zero")] = 1.0,
) -> Tensor:
    """Minimum-norm attack in L0: Adam on the margin and a smooth count of pixels, small changes cut away after a step.

    Cinà et al., "sigma-zero: Gradient-based Optimization of L0-norm Adversarial Examples", arXiv 2402.01879. Theirs are
    the objective, the normalised gradient, the threshold that rises after a success and falls otherwise, and the
    constants; here a colour pixel counts once, and the logits are scaled by what they span at x. Returns the smallest
    success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    with torch.no_grad():
        scale = SPAN / span(model(x)).clamp_min(TINY)
    delta, average, square = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    best, smallest = x, torch.full_like(scale, torch.inf)
    threshold = torch.full_like(scale, THRESHOLD)
    for step in range(steps + 1):
        short, gradient = _descent(model, x, delta, y, targeted, scale)
        size = length(delta, "l0")
        better = (short < 0) & (size < smallest)
        best = torch.where(per_sample(better, x), x + delta, best)
        smallest = torch.where(better, size, smallest)
        if step == steps:
            break
        rate = step_size * decayed(step / steps, 0.0, 1.0)
        gradient = escape(gradient, generator, step)
        gradient = gradient / per_sample(gradient.flatten(1).abs().amax(dim=1), x)
        average = RATES[0] * average + (1 - RATES[0]) * gradient
        square = RATES[1] * square + (1 - RATES[1]) * gradient.square()
        steep = average / (1 - RATES[0] ** (step + 1)), square / (1 - RATES[1] ** (step + 1))
        delta = (delta - rate * steep[0] / (steep[1].sqrt() + TINY)).clamp(-x, 1 - x)
        threshold = (threshold + THRESHOLD_STEP * rate * torch.where(short < 0, 1, -1)).clamp(0, 1)
        delta = torch.where(delta.abs().amax(dim=1, keepdim=True) >= per_sample(threshold, x), delta, 0.0)
    return best


def _descent(model: Model, x: Tensor, delta: Tensor, y: Tensor, targeted: bool, scale: Tensor) -> tuple[Tensor, Tensor]:
    """What success lacks (B,), and the gradient (B, C, H, W) of the objective, which falls towards it."""
    change = delta.detach().requires_grad_()
    short = shortfall(model(x + change), y, targeted)
    pixels = change.square().sum(dim=1).flatten(1)  # (B, H * W)
    count = (pixels / (pixels + SOFTNESS)).mean(dim=1)
    (gradient,) = torch.autograd.grad(((scale * short).clamp_min(0) + count).sum(), change)
    return short.detach(), gradient
