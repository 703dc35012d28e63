"""Random noise: what every attack must beat."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, shortfall
from gauntlet.randomness import Keyed
from gauntlet.threat import Threat, per_sample


def noise(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: Keyed,
    targeted: bool = False,
    draws: Annotated[int, Field(ge=1, le=10_000, description="random points tried per image")] = 10,
) -> Tensor:
    """Uniform points of the ball; the one of ``draws`` that comes nearest to success, measured by the margin.

    No gradient: the baseline below which an attack, or a model's gradient, is broken. x (B, C, H, W) in [0, 1].
    """
    best = x
    best_shortfall = torch.full_like(y, torch.inf, dtype=x.dtype)
    for draw in range(draws):
        normal = generator.normal(2 * draw, tuple(x.shape[1:]))
        point = threat.sample(x, normal, generator.uniform(2 * draw + 1))
        with torch.no_grad():
            lacking = shortfall(model(point), y, targeted)
        better = lacking < best_shortfall
        best = torch.where(per_sample(better, x), point, best)
        best_shortfall = torch.where(better, lacking, best_shortfall)
    return best
