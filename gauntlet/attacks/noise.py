"""Uniform random noise: a baseline that every attack must beat."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, best_of, costs
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat


@costs(lambda p: p.draws)
def noise(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    draws: Annotated[int, Field(ge=1, le=10_000, description="random points tried per image")] = 10,
) -> Tensor:
    """Uniform noise in the ball: of ``draws`` random points, the one that comes nearest to success, by the margin.

    It uses no gradient: an attack that breaks fewer images is broken, or the model's gradient is. x (B, C, H, W) in
    [0, 1].
    """
    shape = tuple(x.shape[1:])
    points = (
        threat.sample(x, generator.normal(2 * draw, shape), generator.uniform(2 * draw + 1)) for draw in range(draws)
    )
    return best_of(model, x, y, points, targeted)
