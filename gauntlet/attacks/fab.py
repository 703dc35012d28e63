"""Fast adaptive boundary."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Aim, Model, class_by_class, costs, decayed, escape, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, onto_plane, per_sample, unit

MEMORY = 0.5  # of the averaged gradient, per step
LEAST_PULL = 0.01  # towards x, in the last step; in the first it is 1
NOISY = 0.7  # share of the steps over which the noise fades
GROWTH = 0.3  # a step lengthens the perturbation by at most this share of it
BEYOND = (1e-4, 1e-2)  # aim this share of the perturbation past the boundary, in the last step and in the first
LOOK = 0.3  # of the steps are taken before a class is given up ...
HOPELESS = 1.15  # ... because the way to its boundary is this many times as long as another class's


@costs(lambda p: p.steps * (p.targets + p.restarts - 1))
def fab(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per run")] = 50,
    targets: Annotated[int, Field(ge=1, le=1_000, description="how many of the nearest other classes to try")] = 3,
    restarts: Annotated[
        int, Field(ge=1, le=100, description="runs to the class that proved nearest, each with new noise")
    ] = 1,
    noise: Annotated[float, Field(ge=0, le=10, description="first length, as a share of the perturbation's")] = 1.0,
) -> Tensor:
    """Minimum-norm L2 attack: a point pulled towards x is put back on the linearised boundary, inside the box, again.

    Croce and Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", arXiv 1907.02044.
    Theirs are the projection within the box, the bias towards x and the classes tried in turn. Here the bias decays,
    and the linearisation is of the gradient's running average at points with fading noise: it follows the boundary at
    large before its folds. Returns each sample's smallest success, x itself where there was none. x (B, C, H, W).
    """
    if targeted:  # one class gets the steps of all
        steps = steps * (targets + restarts - 1) // restarts
    approach = partial(_approach, generator=generator, steps=steps, noise=noise)
    return class_by_class(model, x, y, threat.norm, targets, targeted, approach, restarts - 1)


def _approach(
    model: Model, x: Tensor, aim: Aim, known: Tensor, *, generator: KeyedRandom, steps: int, noise: float
) -> tuple[Tensor, Tensor]:
    """The way to one class: each sample's smallest success (B, C, H, W), and its length (B,), inf where none.

    ``known`` (B,) are the lengths of the smallest successes so far.
    """
    best, smallest = x, torch.full_like(known, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # what is still going, compacted
    origin, point, delta, average = x, x, torch.zeros_like(x), torch.zeros_like(x)
    for step in range(steps + 1):
        logits, gradient = value_and_gradient(model, point, aim.gain)
        offset = point - origin
        size = l2(offset)
        better = aim.won(logits) & (size < smallest[rows])
        best = best.index_copy(0, rows, torch.where(per_sample(better, point), point, best[rows]))
        smallest = smallest.index_copy(0, rows, torch.where(better, size, smallest[rows]))
        if step == steps:
            break
        gradient = escape(gradient, generator.at(rows), 2 * (aim.number * steps + step))
        average = MEMORY * average + (1 - MEMORY) * gradient if step else gradient
        pull, beyond = decayed(step / steps, LEAST_PULL, 1.0), decayed(step / steps, *BEYOND)
        level = (average * offset).flatten(1).sum(dim=1) - aim.gain(logits) + beyond * l2(average) * size
        delta = _held(onto_plane((1 - pull) * delta, average, level, origin), l2(delta))
        if step == int(LOOK * steps):
            going = l2(delta) < HOPELESS * known[rows]
            model, aim, rows = model.at(going), aim.at(going), rows[going]
            origin, delta, average = origin[going], delta[going], average[going]
            if len(rows) == 0:
                break
        point = origin + delta
        fading = noise * max(0.0, 1 - (step + 1) / (NOISY * steps))
        if fading > 0:
            draw = generator.at(rows).normal(2 * (aim.number * steps + step) + 1, tuple(x.shape[1:]))
            point = (point + per_sample(fading * l2(delta), x) * unit(draw)).clamp(0, 1)
    return best, smallest


def _held(delta: Tensor, before: Tensor) -> Tensor:
    """The step's result, cut to GROWTH more than the length before (B,), where that was not zero."""
    size = l2(delta)
    most = torch.where(before > 0, (1 + GROWTH) * before, size)
    return delta * per_sample((most / size.clamp_min(TINY)).clamp_max(1), delta)
