"""FAB: the fast adaptive boundary attack."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Aim, Model, class_by_class, costs, decayed, escape, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, onto_plane, per_sample, unit

MEMORY = 0.5  # decay of the averaged gradient, per step
LEAST_PULL = 0.01  # bias towards x, in the last step; in the first it is 1
NOISE_FADES = 0.7  # share of the steps over which the noise fades to zero
GROWTH = 0.3  # a step lengthens the perturbation by at most this share of it
BEYOND = (1e-4, 1e-2)  # a step aims this share of the perturbation past the boundary: in the last step, in the first
GIVE_UP_AFTER = 0.3  # after this share of the steps, a class is given up if ...
HOPELESS = 1.15  # ... the perturbation towards it is this many times as long as the smallest success


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
        int, Field(ge=1, le=100, description="runs to the class with the smallest success, each with new noise")
    ] = 1,
    noise: Annotated[float, Field(ge=0, le=10, description="first noise length, as a share of the perturbation")] = 1.0,
) -> Tensor:
    """Minimum-norm L2 attack: each step pulls the point towards x and projects it onto the linearised boundary.

    Croce and Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", arXiv 1907.02044.
    From the paper: the projection within the box, the bias towards x and the classes tried in turn. Here the bias
    decays, and the linearisation uses the running average of gradients at points with fading noise, so that it follows
    the coarse shape of the boundary before its details. Returns each sample's smallest success, x itself where there
    was none. x (B, C, H, W) in [0, 1].
    """
    if targeted:  # the one target class gets the steps of all classes
        steps = steps * (targets + restarts - 1) // restarts
    approach = partial(_approach, generator=generator, steps=steps, noise=noise)
    return class_by_class(model, x, y, threat.norm, targets, targeted, approach, restarts - 1)


def _approach(
    model: Model, x: Tensor, aim: Aim, known: Tensor, *, generator: KeyedRandom, steps: int, noise: float
) -> tuple[Tensor, Tensor]:
    """Attack towards one class: return the smallest successes (B, C, H, W) and their lengths (B,), inf if none.

    ``known`` (B,) are the lengths of the smallest successes so far.
    """
    best, smallest = x, torch.full_like(known, torch.inf)
    rows = torch.arange(len(x), device=x.device)  # active samples
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
        delta = _limit_growth(onto_plane((1 - pull) * delta, average, level, origin), l2(delta))
        if step == int(GIVE_UP_AFTER * steps):
            active = l2(delta) < HOPELESS * known[rows]
            model, aim, rows = model.at(active), aim.at(active), rows[active]
            origin, delta, average = origin[active], delta[active], average[active]
            if len(rows) == 0:
                break
        point = origin + delta
        fading = noise * max(0.0, 1 - (step + 1) / (NOISE_FADES * steps))
        if fading > 0:
            draw = generator.at(rows).normal(2 * (aim.number * steps + step) + 1, tuple(x.shape[1:]))
            point = (point + per_sample(fading * l2(delta), x) * unit(draw)).clamp(0, 1)
    return best, smallest


def _limit_growth(delta: Tensor, before: Tensor) -> Tensor:
    """Shorten delta to at most (1 + GROWTH) times the length ``before`` (B,), unless that was zero."""
    size = l2(delta)
    limit = torch.where(before > 0, (1 + GROWTH) * before, size)
    return delta * per_sample((limit / size.clamp_min(TINY)).clamp_max(1), delta)
