"""Random noise: what every attack must beat."""

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
    """Uniform points of the ball; the one of ``draws`` that comes nearest to success, measured by the margin.

    No gradient: the baseline below which an attack, or a model's gradient, is broken. x (B, C, H, W) in [0, 1].
    """
    shape = tuple(x.shape[1:])
    points = (
        threat.sample(x, generator.normal(2 * draw, shape), generator.uniform(2 * draw + 1)) for draw in range(draws)
    )
    return best_of(model, x, y, points, targeted)
