"""The attack of Carlini and Wagner."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, shortfall
from gauntlet.randomness import Keyed
from gauntlet.threat import Threat, l2, per_sample

CHECKS = 20  # a search looks this often whether a sample still improves ...
STALLED = 0.993  # ... by at least this factor
DECAY = 0.1  # of the learning rate, from the first step to the last, in equal ratios
STRIDE = 0.5  # longest first step, as a share of the smallest perturbation so far


def cw(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: Keyed,
    targeted: bool = False,
    searches: Annotated[int, Field(ge=1, le=30, description="values of c tried")] = 6,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per search")] = 200,
    step_size: Annotated[float, Field(gt=0, le=1, description="Adam's first learning rate, of the angle")] = 0.02,
    initial_c: Annotated[float, Field(gt=0, le=1e6, description="first weight of the misclassification term")] = 0.1,
    kappa: Annotated[float, Field(ge=0, le=1e3, description="confidence: by how many logits to win")] = 0.0,
) -> Tensor:
    """Minimum-norm L2 attack: min |delta|^2 + c max(0, z_y - max z_j + kappa) by Adam, searching c.

    Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", arXiv 1608.04644, in whose change of
    variables a sine replaces the hyperbolic tangent: pixels are (1 + sin w) / 2. With tanh black and white are
    infinitely far out, and a step that moves them is too large for grey ones. Each search starts at x, with steps of
    at most half of what was reached; a sample that no longer improves leaves the batch. Returns the smallest success of
    each sample over all searches, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    lower, upper = torch.zeros_like(y, dtype=x.dtype), torch.full_like(y, torch.inf, dtype=x.dtype)
    c = torch.full_like(lower, initial_c)
    best, best_norm = x, torch.full_like(lower, torch.inf)
    reach = (x * (1 - x)).flatten(1).sum(dim=1).sqrt() + 1e-6  # how far a step of 1 goes, all pixels together
    for _ in range(searches):
        first_rate = (STRIDE * best_norm / reach).clamp_max(step_size)
        point, norm = _minimise(model, x, y, c, targeted, steps, first_rate, kappa)
        won, smaller = norm < torch.inf, norm < best_norm
        best = torch.where(per_sample(smaller, x), point, best)
        best_norm = torch.where(smaller, norm, best_norm)
        upper = torch.where(won, torch.minimum(upper, c), upper)
        lower = torch.where(won, lower, torch.maximum(lower, c))
        between = torch.where(lower > 0, (lower * upper).sqrt(), upper / 10)
        c = torch.where(upper < torch.inf, between, 10 * c)
    return best


def _minimise(
    model: Model, x: Tensor, y: Tensor, c: Tensor, targeted: bool, steps: int, first_rate: Tensor, kappa: float
) -> tuple[Tensor, Tensor]:
    """One search at fixed c (B,): each sample's smallest success (B, C, H, W), and its norm (B,), inf where none."""
    best, best_norm = x, torch.full_like(c, torch.inf)
    w = torch.asin((2 * x - 1) * (1 - 1e-6))
    first, second = torch.zeros_like(w), torch.zeros_like(w)  # Adam's moments
    rows = torch.arange(len(x), device=x.device)  # what still improves, compacted
    lowest = torch.full_like(c, torch.inf)  # objective so far ...
    previous = lowest  # ... and at the last look
    for step in range(1, steps + 2):
        w.requires_grad_()
        point = (torch.sin(w) + 1) / 2
        lacking = shortfall(model(point), y[rows], targeted) + kappa
        objective = (point - x[rows]).flatten(1).square().sum(dim=1) + c[rows] * lacking.clamp_min(0)
        (gradient,) = torch.autograd.grad(objective.sum(), w)
        with torch.no_grad():
            norm = l2(point - x[rows])
            smaller = (lacking < 0) & (norm < best_norm[rows])
            best = best.index_copy(0, rows, torch.where(per_sample(smaller, point), point, best[rows]))
            best_norm = best_norm.index_copy(0, rows, torch.where(smaller, norm, best_norm[rows]))
            if step > steps:  # the last update is tested too
                break
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            rate = per_sample(first_rate[rows] * DECAY ** (step / steps), w)
            w = w - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            lowest = lowest.index_copy(0, rows, torch.minimum(objective, lowest[rows]))
            if step % max(1, steps // CHECKS) == 0:
                improving = lowest[rows] < STALLED * previous[rows]
                previous = lowest
                rows, w, first, second = rows[improving], w[improving], first[improving], second[improving]
                model = model.at(improving)
                if len(rows) == 0:
                    break
    return best, best_norm
