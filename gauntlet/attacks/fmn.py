"""Fast minimum norm."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Aim, Model, class_by_class, costs, decayed, escape, value_and_gradient
from gauntlet.norms import Norm
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, keep, length, per_sample, reach, shorten, steepest, unblocked

SMALLEST = 1e-4  # first radius, at least: an image on the boundary has an estimate of zero
CHANGE = 0.3  # a step changes the radius by at most this share of it
BEYOND = (1e-4, 0.01)  # by this share the radius aims past the boundary, in the last step and in the first
FINEST = 0.01  # last step, as a share of the first
GAMMA = (0.001, 0.05)  # by this share, and by a pixel at least, the number of pixels falls and rises (L0)
MEMORY: dict[Norm, float] = {"linf": 0.5, "l2": 0.5, "l1": 0.5, "l0": 0.9}  # of the averaged gradient, per step
LOOK = 0.2  # of the steps are taken before a class is given up ...
STEP_SIZE = 2.0  # the first, as a share of the radius ...
AIMED: dict[Norm, float] = {"linf": 0.25, "l2": 0.25, "l1": 0.25, "l0": 1.0}  # ... times this towards a chosen class
HOPELESS = 1.15  # ... because the way to its boundary is this many times as long as another class's


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
    """Minimum-norm attack: steps up the difference of two logits, projected to a ball that ends at the boundary.

    Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", arXiv 2102.12827. Theirs
    are the objective, the projection, the cosine decay, the first-order estimate of the radius and, in L0, its rise and
    fall; here the estimate is made at every step, gradients are averaged, steps are relative to the radius, and the
    classes nearest to first order are tried in turn, because the nearest way out of y leads to one of them; one whose
    boundary turns out to be much farther than another's is given up early. A class to reach gets the steps of all, and
    smaller ones, because the way to it is longer and bends more.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    if targeted:
        steps, step_size = steps * targets, AIMED[threat.norm] * step_size
    approach = partial(_approach, norm=threat.norm, generator=generator, steps=steps, step_size=step_size)
    return class_by_class(model, x, y, threat.norm, targets, targeted, approach)


def descend(
    model: Model, x: Tensor, y: Tensor, start: Tensor, norm: Norm, *, generator: KeyedRandom, targeted: bool, steps: int
) -> tuple[Tensor, Tensor]:
    """From successes ``start`` (B, C, H, W) towards x: the smallest ones on the way, and their lengths (B,)."""
    with torch.no_grad():
        rival = y if targeted else model(start).argmax(dim=1)
    far, aim = torch.full_like(y, torch.inf, dtype=x.dtype), Aim(y, rival, targeted, 0)
    size = STEP_SIZE * (AIMED[norm] if targeted else 1)
    return _approach(model, x, aim, far, norm=norm, generator=generator, steps=steps, step_size=size, start=start)


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
    """The way to one class: each sample's smallest success (B, C, H, W), and its length (B,), inf where none."""
    best, smallest = x, torch.full_like(known, torch.inf)
    begin = x if start is None else start
    rows = torch.arange(len(x), device=x.device)  # what is still going, compacted
    origin, delta, average = x, begin - x, torch.zeros_like(x)
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
            delta = _swap(origin, delta, aim, logits, average, smallest[rows], rate, decayed(elapsed, *GAMMA))
        else:
            radius = _radius(aim.gain(logits), average, point, size, norm) * (1 + decayed(elapsed, *BEYOND))
            moved = delta + per_sample(rate * radius, delta) * steepest(average, norm)
            delta = shorten(moved, norm, radius).clamp(-origin, 1 - origin)
        if step == int(LOOK * steps):
            going = length(delta, norm) < HOPELESS * known[rows]
            model, aim, rows = model.at(going), aim.at(going), rows[going]
            origin, delta, average = origin[going], delta[going], average[going]
            if len(rows) == 0:
                break
    return best, smallest


def _radius(gain: Tensor, gradient: Tensor, point: Tensor, size: Tensor, norm: Norm) -> Tensor:
    """How long the perturbation (B,) must be to end on the boundary, to first order, within CHANGE of what it is."""
    estimate = size + reach(-gain, gradient, point, norm)
    near = estimate.clamp((1 - CHANGE) * size, (1 + CHANGE) * size)
    return torch.where(size > 0, near, estimate).clamp(SMALLEST, point[0].numel())


def _swap(
    x: Tensor, delta: Tensor, aim: Aim, logits: Tensor, gradient: Tensor, smallest: Tensor, rate: float, gamma: float
) -> Tensor:
    """L0: a step, of which the pixels that gain most stay, fewer after a success and more after a failure."""
    count = length(delta, "l0")
    first = reach(-aim.gain(logits), gradient, x, "l0")
    fewer = torch.minimum(torch.minimum(count - 1, (count * (1 - gamma)).floor()), smallest - 1)
    growth = torch.where(smallest.isinf(), 1 + CHANGE, 1 + gamma)  # nothing to compare with: hurry
    more = torch.minimum(torch.maximum(count + 1, (count * growth).floor()), smallest - 1)
    count = torch.where(count == 0, first, torch.where(aim.won(logits), fewer, more)).clamp_min(1)
    moved = (delta + rate * steepest(gradient, "l1")).clamp(-x, 1 - x)
    return keep(moved, (gradient * moved).sum(dim=1), count)
