"""Augmented Lagrangian method for adversarial attacks."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, shortfall, value_and_gradient
from gauntlet.norms import Norm
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, length, per_sample, unblocked, unit

KEPT = 0.9  # share kept per step of each running average: of mu, of the squared gradient, of the momentum
LAST_RATE = 0.01  # of the learning rate that a sample's first success finds
LOOK = 10  # steps between two looks whether the constraint improves ...
IMPROVED = 0.95  # ... by at least this factor; else ...
GROWTH = 1.2  # ... rho grows by this one
TOLERANCE = 1e-4  # the constraint is met a little beyond the boundary
SMALLEST, LARGEST = 1e-6, 1e12  # mu


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
    """Minimum-norm attack: min |delta| subject to success, by descent of an augmented Lagrangian.

    Rony et al., "Augmented Lagrangian Adversarial Attacks", arXiv 2011.11857, with their penalty P2, for L2 and L1. The
    multiplier mu is the running average of the penalty's slope; rho grows while a sample neither succeeds nor comes
    nearer. The constraint is the difference of logits in units of that at x, not in units of what three logits span,
    which a class out of reach would stretch.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    best, smallest = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    mu = rho = rate = torch.ones_like(smallest)
    since, seen = torch.full_like(smallest, steps), smallest
    delta, momentum, square = torch.zeros_like(x), torch.zeros_like(x), torch.ones_like(x)
    with torch.no_grad():
        scale = shortfall(model(x), y, targeted).abs().clamp_min(TINY)
    constraint = partial(_lacking, y=y, targeted=targeted, scale=scale)
    for step in range(steps + 1):
        point, size = x + delta, length(delta, threat.norm)
        logits, slope = value_and_gradient(model, point, constraint)
        lacking, won = constraint(logits), shortfall(logits, y, targeted) < 0
        since, better = torch.where(won, since.clamp_max(step), since), won & (size < smallest)
        best = torch.where(per_sample(better, x), point, best)
        smallest = torch.where(better, size, smallest)
        if step == steps:
            break
        slope = escape(slope, generator, step)
        if step == 0:
            rate, seen = first_step / l2(unblocked(slope, x)).clamp_min(TINY), lacking
        else:
            mu = (KEPT * mu + (1 - KEPT) * _penalty_slope(lacking, rho, mu)).clamp(SMALLEST, LARGEST)
        if step and step % LOOK == 0:
            rho = torch.where(smallest.isinf() & (lacking >= IMPROVED * seen), GROWTH * rho, rho)
            seen = lacking
        gradient = _outward(delta, threat.norm) + per_sample(_penalty_slope(lacking, rho, mu), x) * slope
        square = KEPT * square + (1 - KEPT) * gradient.square()
        momentum = KEPT * momentum + gradient / (square.sqrt() + TINY)
        decay = LAST_RATE ** ((step - since).clamp_min(0) / (steps - since).clamp_min(1))
        delta = (x + delta - per_sample(rate * decay, x) * momentum).clamp(0, 1) - x
    return best


def _lacking(logits: Tensor, y: Tensor, targeted: bool, scale: Tensor) -> Tensor:
    """The constraint (B,): 1 at x, success below zero."""
    return TOLERANCE + shortfall(logits, y, targeted) / scale


def _penalty_slope(lacking: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """Derivative of the penalty P2 with respect to the constraint: (B,)."""
    above = mu + 2 * mu * rho * lacking + (rho * lacking).square() / 2
    return torch.where(lacking >= 0, above, mu / (1 - rho * lacking.clamp_max(0)).square())


def _outward(delta: Tensor, norm: Norm) -> Tensor:
    """Gradient (B, C, H, W) of the length of delta."""
    return delta.sign() if norm == "l1" else unit(delta)
