"""ALMA: the augmented Lagrangian method for adversarial attacks."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, shortfall, value_and_gradient
from gauntlet.norms import Norm
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, length, per_sample, unblocked, unit

MEMORY = 0.9  # decay per step of each running average: mu, the squared gradient, the momentum
LAST_RATE = 0.01  # final learning rate, as a share of the rate at the sample's first success
CHECK_INTERVAL = 10  # every so many steps, rho of a sample without a success grows by the factor GROWTH ...
IMPROVED = 0.95  # ... unless the constraint has fallen below this share of its value at the last check
GROWTH = 1.2
TOLERANCE = 1e-4  # the constraint is met this far beyond the boundary
SMALLEST, LARGEST = 1e-6, 1e12  # limits of mu


@costs(lambda p: p.steps)
def alma(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps")] = 200,
    first_step: Annotated[float, Field(gt=0, le=10, description="L2 length of the first step, in pixel units")] = 0.1,
) -> Tensor:
    """Minimum-norm attack: min |delta| subject to success, by gradient descent on an augmented Lagrangian.

    Rony et al., "Augmented Lagrangian Adversarial Attacks", arXiv 2011.11857, with their penalty P2, for L2 and L1. The
    multiplier mu is the running average of the penalty's slope; rho grows while a sample neither succeeds nor comes
    nearer. The constraint is the difference of logits, divided by its value at x; not by the span of three logits,
    which a class out of reach would stretch.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    best, smallest = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    mu = rho = rate = torch.ones_like(smallest)
    first_success, previous = torch.full_like(smallest, steps), smallest
    delta, momentum, square = torch.zeros_like(x), torch.zeros_like(x), torch.ones_like(x)
    with torch.no_grad():
        scale = shortfall(model(x), y, targeted).abs().clamp_min(TINY)
    constraint = partial(_lacking, y=y, targeted=targeted, scale=scale)
    for step in range(steps + 1):
        point, size = x + delta, length(delta, threat.norm)
        logits, slope = value_and_gradient(model, point, constraint)
        lacking, won = constraint(logits), shortfall(logits, y, targeted) < 0
        first_success, better = torch.where(won, first_success.clamp_max(step), first_success), won & (size < smallest)
        best = torch.where(per_sample(better, x), point, best)
        smallest = torch.where(better, size, smallest)
        if step == steps:
            break
        slope = escape(slope, generator, step)
        if step == 0:
            rate, previous = first_step / l2(unblocked(slope, x)).clamp_min(TINY), lacking
        else:
            mu = (MEMORY * mu + (1 - MEMORY) * _penalty_slope(lacking, rho, mu)).clamp(SMALLEST, LARGEST)
        if step and step % CHECK_INTERVAL == 0:
            rho = torch.where(smallest.isinf() & (lacking >= IMPROVED * previous), GROWTH * rho, rho)
            previous = lacking
        gradient = _length_gradient(delta, threat.norm) + per_sample(_penalty_slope(lacking, rho, mu), x) * slope
        square = MEMORY * square + (1 - MEMORY) * gradient.square()
        momentum = MEMORY * momentum + gradient / (square.sqrt() + TINY)
        decay = LAST_RATE ** ((step - first_success).clamp_min(0) / (steps - first_success).clamp_min(1))
        delta = (x + delta - per_sample(rate * decay, x) * momentum).clamp(0, 1) - x
    return best


def _lacking(logits: Tensor, y: Tensor, targeted: bool, scale: Tensor) -> Tensor:
    """Return the constraint (B,): about 1 at x, below zero for a success."""
    return TOLERANCE + shortfall(logits, y, targeted) / scale


def _penalty_slope(lacking: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """Return the derivative of the penalty P2 with respect to the constraint: (B,)."""
    above = mu + 2 * mu * rho * lacking + (rho * lacking).square() / 2
    return torch.where(lacking >= 0, above, mu / (1 - rho * lacking.clamp_max(0)).square())


def _length_gradient(delta: Tensor, norm: Norm) -> Tensor:
    """Return the gradient (B, C, H, W) of the L1 or L2 length of delta."""
    return delta.sign() if norm == "l1" else unit(delta)
