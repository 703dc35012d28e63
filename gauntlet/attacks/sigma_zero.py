"""Sigma-zero: gradient descent on a smooth approximation of the number of changed pixels."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, decayed, escape, shortfall, span
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, length, per_sample

SOFTNESS = 1e-3  # of the approximation: a pixel counts d / (d + SOFTNESS), where d is its squared change
SPAN = 20.0  # the logits are scaled to this span at x, which fixes the weight of the margin against the pixel count
RATES = (0.9, 0.999)  # Adam's decay rates
THRESHOLD, THRESHOLD_STEP = 0.3, 0.01  # smaller changes of a pixel are set to zero: first value, and its adaptation


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
    """Minimum-norm L0 attack: Adam on the margin plus a smooth pixel count; each step sets small changes to zero.

    Cinà et al., "sigma-zero: Gradient-based Optimization of L0-norm Adversarial Examples", arXiv 2402.01879. From the
    paper: the objective, the normalised gradient, the threshold that rises after a success and falls otherwise, and the
    constants. Here a colour pixel counts once, and the logits are divided by their span at x. Returns the smallest
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
        moments = average / (1 - RATES[0] ** (step + 1)), square / (1 - RATES[1] ** (step + 1))
        delta = (delta - rate * moments[0] / (moments[1].sqrt() + TINY)).clamp(-x, 1 - x)
        threshold = (threshold + THRESHOLD_STEP * rate * torch.where(short < 0, 1, -1)).clamp(0, 1)
        delta = torch.where(delta.abs().amax(dim=1, keepdim=True) >= per_sample(threshold, x), delta, 0.0)
    return best


def _descent(model: Model, x: Tensor, delta: Tensor, y: Tensor, targeted: bool, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shortfall (B,), and the gradient (B, C, H, W) of the objective, which the attack minimises."""
    change = delta.detach().requires_grad_()
    short = shortfall(model(x + change), y, targeted)
    pixels = change.square().sum(dim=1).flatten(1)  # (B, H * W)
    count = (pixels / (pixels + SOFTNESS)).mean(dim=1)
    (gradient,) = torch.autograd.grad(((scale * short).clamp_min(0) + count).sum(), change)
    return short.detach(), gradient
