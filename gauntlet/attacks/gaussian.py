"""Gaussian noise: a baseline, like the uniform noise of ``noise``."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, best_of, costs
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, per_sample


@costs(lambda p: p.draws)
def gaussian(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    draws: Annotated[int, Field(ge=1, le=10_000, description="random directions tried per image")] = 10,
) -> Tensor:
    """Gaussian noise scaled to length eps: of ``draws`` random directions, the one that comes nearest to success.

    It uses no gradient: a baseline, like ``noise``. Nearness to success is measured by the margin. In Linf the largest
    entry is eps and most are far smaller.
    x (B, C, H, W) in [0, 1].
    """
    directions = (generator.normal(draw, tuple(x.shape[1:])) for draw in range(draws))
    points = (threat.project(x, x + threat.radius * _unit(threat, direction)) for direction in directions)
    return best_of(model, x, y, points, targeted)


def _unit(threat: Threat, direction: Tensor) -> Tensor:
    """Scale each sample to length one in the norm of the threat."""
    length = threat.size(torch.zeros_like(direction), direction).to(direction.dtype)
    return direction / per_sample(length, direction)
