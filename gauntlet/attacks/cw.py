"""The L2 attack of Carlini and Wagner."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, per_sample

CHECK_INTERVAL = 10  # steps between two checks whether a sample still improves, at least ...
MAX_CHECKS = 20  # ... and checks per search, at most
STALLED = 0.993  # a sample stops unless the objective fell below this share of its value at the last check
DECAY = 0.1  # last learning rate, as a share of the first; exponential decay
STRIDE = 0.25  # longest first step, as a share of the smallest perturbation so far ...
GUESS = 2.0  # ... or of this many times the first-order estimate
FEW_STEPS_STRIDE = 16.0  # if there are few steps, that share is this divided by their number, and ...
FEW_STEPS_RATE = 4.0  # ... the largest learning rate is this divided by their number: enough to turn black into grey
GROWTH = 2.0  # factor of c after the first failure; its square after the second, and so on
EXCESS = 4.0  # a success is final unless c was more than this many times the c that its length calls for
LARGEST = 1e12  # limit of c
LEAST = 1e-6  # logits, pixels: keeps an image on the boundary out of denominators


@costs(lambda p: p.searches * p.steps)
def cw(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    searches: Annotated[int, Field(ge=1, le=30, description="values of c to try, at most")] = 6,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per search")] = 200,
    step_size: Annotated[
        float, Field(gt=0, le=1, description="Adam's first learning rate, at most; larger if there are few steps")
    ] = 0.02,
    initial_c: Annotated[
        float,
        Field(gt=0, le=1e6, description="first weight of misclassification, in units of the first-order estimate"),
    ] = 1.5,
    kappa: Annotated[float, Field(ge=0, le=1e3, description="confidence: required margin of success, in logits")] = 0.0,
) -> Tensor:
    """Minimum-norm L2 attack: min |delta|^2 + c max(0, z_y - max z_j + kappa) by Adam, searching c.

    Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", arXiv 1608.04644. In their change of
    variables a sine replaces the hyperbolic tangent: pixels are (1 + sin w) / 2. With tanh, black and white pixels lie
    at infinity, and a step that moves them is too large for grey ones. Instead of bisecting c, each sample starts near
    the smallest c for which, to first order, the objective is minimal at the boundary. It tries larger values until it
    succeeds, then a smaller one if the length of the success shows that this would have been enough, until that fails.
    Each search starts at x and ends for a sample that no longer improves.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    logits, slope = value_and_gradient(model, x, partial(shortfall, y=y, targeted=targeted))
    lacking = (shortfall(logits, y, targeted) + kappa).clamp_min(LEAST)
    guess = lacking / l2(slope).clamp_min(TINY)  # distance to the boundary, to first order
    c = (initial_c * _just_enough(guess, lacking)).clamp_max(LARGEST)
    travel = (x * (1 - x)).flatten(1).sum(dim=1).sqrt() + LEAST  # length in pixel space of a step of 1 in every w
    best, smallest = x, torch.full_like(guess, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # samples that are still being searched
    stride, longest = max(STRIDE, FEW_STEPS_STRIDE / steps), max(step_size, FEW_STEPS_RATE / steps)
    for search in range(1, searches + 1):
        first_rate = (stride * torch.minimum(smallest, GUESS * guess)[rows] / travel[rows]).clamp_max(longest)
        point, norm = _minimise(model, x[rows], y[rows], c[rows], targeted, steps, first_rate, kappa)
        smaller = norm < smallest[rows]
        best = best.index_copy(0, rows, torch.where(per_sample(smaller, point), point, best[rows]))
        smallest = smallest.index_copy(0, rows, torch.where(smaller, norm, smallest[rows]))
        won, enough = norm < torch.inf, _just_enough(norm, lacking[rows])
        active = torch.where(won, c[rows] > EXCESS * enough, smallest[rows].isinf())
        c = c.index_copy(0, rows, torch.where(won, initial_c * enough, GROWTH**search * c[rows]).clamp_max(LARGEST))
        rows, model = rows[active], model.at(active)
        if len(rows) == 0:
            break
    return best


def _just_enough(length: Tensor, lacking: Tensor) -> Tensor:
    """Return the smallest c (B,) whose objective is minimal at the boundary, ``length`` (B,) away.

    It assumes that the logits change linearly on the way: there, c times their slope equals the slope of the squared
    length.
    """
    return (2 * length.square() / lacking).clamp(TINY, LARGEST)


def _minimise(
    model: Model, x: Tensor, y: Tensor, c: Tensor, targeted: bool, steps: int, first_rate: Tensor, kappa: float
) -> tuple[Tensor, Tensor]:
    """Search at fixed c (B,): return each sample's smallest success (B, C, H, W), and its norm (B,), inf if none."""
    best, best_norm = x, torch.full_like(c, torch.inf)
    w = torch.asin((2 * x - 1) * (1 - 1e-6))
    first, second = torch.zeros_like(w), torch.zeros_like(w)  # Adam's moments
    rows = torch.arange(len(x), device=x.device)  # samples that still improve
    lowest = torch.full_like(c, torch.inf)  # smallest objective so far ...
    previous = lowest  # ... and until the last check
    for step in range(1, steps + 2):
        w.requires_grad_()
        point = (torch.sin(w) + 1) / 2
        lacking = shortfall(model(point), y[rows], targeted) + kappa
        objective = (point - x[rows]).flatten(1).square().sum(dim=1) + c[rows] * lacking.clamp_min(0)
        gradient = torch.autograd.grad(objective.sum(), w)[0]
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
            if step % max(CHECK_INTERVAL, steps // MAX_CHECKS) == 0:
                improving = lowest[rows] < STALLED * previous[rows]
                previous = lowest
                rows, w, first, second = rows[improving], w[improving], first[improving], second[improving]
                model = model.at(improving)
                if len(rows) == 0:
                    break
    return best, best_norm
