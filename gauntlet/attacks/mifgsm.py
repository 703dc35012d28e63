"""MI-FGSM: the iterative fast gradient sign method with momentum."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, loss, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, length, per_sample


@costs(lambda p: p.steps)
def mifgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps")] = 10,
    decay: Annotated[float, Field(ge=0, le=1, description="factor of the momentum per step")] = 1.0,
    relative_step: Annotated[float, Field(gt=0, le=10, description="step size is this times eps / steps")] = 1.0,
) -> Tensor:
    """Steepest-ascent steps along the momentum: the decaying sum of all gradients, each scaled to L1 length one.

    Dong et al., "Boosting Adversarial Attacks with Momentum", arXiv 1710.06081. Designed for
    transfer to other models: no sample stops at its first success. Returns the iterate with the largest margin of
    success. x (B, C, H, W) in [0, 1].
    """
    best, lacking = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    point, momentum = x, torch.zeros_like(x)
    for step in range(steps + 1):
        logits, gradient = value_and_gradient(model, point, partial(loss, y=y, targeted=targeted))
        short = shortfall(logits, y, targeted)
        better = short < lacking
        best = torch.where(per_sample(better, x), point, best)
        lacking = torch.where(better, short, lacking)
        if step == steps:
            break
        gradient = escape(gradient, generator, step)
        momentum = decay * momentum + gradient / per_sample(length(gradient, "l1").clamp_min(TINY), x)
        point = threat.project(x, point + relative_step * threat.radius / steps * threat.steepest(momentum))
    return best
