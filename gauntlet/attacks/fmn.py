"""FMN: the fast minimum-norm attack."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Aim, Model, class_by_class, costs, decayed, escape, value_and_gradient
from gauntlet.norms import Norm
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, keep, length, per_sample, reach, shorten, steepest, unblocked

SMALLEST = 1e-4  # lower limit of the radius: an image on the boundary has an estimate of zero
CHANGE = 0.3  # a step changes the radius by at most this share of it
BEYOND = (1e-4, 0.01)  # share by which the radius reaches past the boundary: in the last step, in the first
FINEST = 0.01  # last step size, as a share of the first
GAMMA = (0.001, 0.05)  # L0: share by which the number of pixels changes, at least one: in the last step, in the first
MEMORY: dict[Norm, float] = {"linf": 0.5, "l2": 0.5, "l1": 0.5, "l0": 0.9}  # decay of the averaged gradient
GIVE_UP_AFTER = 0.2  # after this share of the steps, a class is given up if ...
HOPELESS = 1.15  # ... the perturbation towards it is this many times as long as the smallest success
STEP_SIZE = 2.0  # first step size, as a share of the radius ...
TARGETED: dict[Norm, float] = {"linf": 0.25, "l2": 0.25, "l1": 0.25, "l0": 1.0}  # ... times this towards a target class


@costs(lambda p: p.steps * p.targets)
def fmn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per class")] = 40,
    targets: Annotated[int, Field(ge=1, le=1_000, description="how many of the nearest other classes to try")] = 3,
    step_size: Annotated[
        float, Field(gt=0, le=100, description="first step, as a share of the radius; it decays to a hundredth")
    ] = STEP_SIZE,
) -> Tensor:
    """Minimum-norm attack: gradient steps on the difference of two logits, projected to a ball up to the boundary.

    Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", arXiv 2102.12827. From
    the paper: the objective, the projection, the cosine decay, the first-order estimate of the radius and, in L0, its
    growth and shrinking. Here the estimate is made at every step, gradients are averaged, and steps are relative to the
    radius. The classes nearest to first order are tried in turn, because the nearest boundary belongs to one of them; a
    class whose boundary turns out to be much farther than another's is given up early. A target class gets the steps of
    all classes, and smaller ones, because the path to it is longer and bends more.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    if targeted:
        steps, step_size = steps * targets, TARGETED[threat.norm] * step_size
    approach = partial(_approach, norm=threat.norm, generator=generator, steps=steps, step_size=step_size)
    return class_by_class(model, x, y, threat.norm, targets, targeted, approach)


def descend(
    model: Model, x: Tensor, y: Tensor, start: Tensor, norm: Norm, *, generator: KeyedRandom, targeted: bool, steps: int
) -> tuple[Tensor, Tensor]:
    """Run FMN from the successes ``start`` (B, C, H, W); return the smallest successes, and their lengths (B,)."""
    with torch.no_grad():
        rival = y if targeted else model(start).argmax(dim=1)
    unbounded, aim = torch.full_like(y, torch.inf, dtype=x.dtype), Aim(y, rival, targeted, 0)
    size = STEP_SIZE * (TARGETED[norm] if targeted else 1)
    return _approach(model, x, aim, unbounded, norm=norm, generator=generator, steps=steps, step_size=size, start=start)


def _approach(
    model: Model,
    x: Tensor,
    aim: Aim,
    known: Tensor,
    *,
    norm: Norm,
    generator: KeyedRandom,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attack towards one class: return the smallest successes (B, C, H, W) and their lengths (B,), inf if none."""
    best, smallest = x, torch.full_like(known, torch.inf)
    initial = x if start is None else start
    rows = torch.arange(len(x), device=x.device)  # active samples
    origin, delta, average = x, initial - x, torch.zeros_like(x)
    for step in range(steps + 1):
        elapsed, point = step / steps, origin + delta
        logits, gradient = value_and_gradient(model, point, aim.gain)
        size = length(delta, norm)
        better = aim.won(logits) & (size < smallest[rows])
        best = best.index_copy(0, rows, torch.where(per_sample(better, point), point, best[rows]))
        smallest = smallest.index_copy(0, rows, torch.where(better, size, smallest[rows]))
        if step == steps:
            break
        gradient = escape(unblocked(gradient, point), generator.at(rows), aim.number * steps + step, average)
        memory = MEMORY[norm] if step else 0.0
        average = memory * average + (1 - memory) * gradient
        rate = step_size * decayed(elapsed, FINEST, 1.0)
        if norm == "l0":
            delta = _sparse_step(origin, delta, aim, logits, average, smallest[rows], rate, decayed(elapsed, *GAMMA))
        else:
            radius = _radius(aim.gain(logits), average, point, size, norm) * (1 + decayed(elapsed, *BEYOND))
            moved = delta + per_sample(rate * radius, delta) * steepest(average, norm)
            delta = shorten(moved, norm, radius).clamp(-origin, 1 - origin)
        if step == int(GIVE_UP_AFTER * steps):
            active = length(delta, norm) < HOPELESS * known[rows]
            model, aim, rows = model.at(active), aim.at(active), rows[active]
            origin, delta, average = origin[active], delta[active], average[active]
            if len(rows) == 0:
                break
    return best, smallest


def _radius(gain: Tensor, gradient: Tensor, point: Tensor, size: Tensor, norm: Norm) -> Tensor:
    """Return the perturbation length (B,) that reaches the boundary, to first order; changed by at most CHANGE."""
    estimate = size + reach(-gain, gradient, point, norm)
    near = estimate.clamp((1 - CHANGE) * size, (1 + CHANGE) * size)
    return torch.where(size > 0, near, estimate).clamp(SMALLEST, point[0].numel())


def _sparse_step(
    x: Tensor, delta: Tensor, aim: Aim, logits: Tensor, gradient: Tensor, smallest: Tensor, rate: float, gamma: float
) -> Tensor:
    """L0: take a step and keep the pixels that gain most, fewer after a success and more after a failure."""
    count = length(delta, "l0")
    first = reach(-aim.gain(logits), gradient, x, "l0")
    fewer = torch.minimum(torch.minimum(count - 1, (count * (1 - gamma)).floor()), smallest - 1)
    growth = torch.where(smallest.isinf(), 1 + CHANGE, 1 + gamma)  # no success yet: grow faster
    more = torch.minimum(torch.maximum(count + 1, (count * growth).floor()), smallest - 1)
    count = torch.where(count == 0, first, torch.where(aim.won(logits), fewer, more)).clamp_min(1)
    moved = (delta + rate * steepest(gradient, "l1")).clamp(-x, 1 - x)
    return keep(moved, (gradient * moved).sum(dim=1), count)
