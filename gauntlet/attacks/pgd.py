"""PGD: projected gradient descent."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, loss, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, per_sample


@costs(lambda p: p.steps * p.restarts)
def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps per restart")] = 40,
    restarts: Annotated[int, Field(ge=1, le=100, description="the first starts at the image, the rest at random")] = 1,
    relative_step: Annotated[float, Field(gt=0, le=10, description="step size is this times eps / steps")] = 2.5,
    early_stop: Annotated[bool, Field(description="stop a sample at its first success")] = True,
) -> Tensor:
    """Repeated steepest-ascent steps on the cross-entropy, projected to the ball.

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083. The first
    start is x itself, because random starts alone are points too weak in L2. Returns, per sample, the iterate nearest
    to success, the last one included (with ``early_stop``: the first success). x (B, C, H, W) in [0, 1].
    """
    best, lacking = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    step_size = relative_step * threat.radius / steps
    for restart in range(restarts):
        rows = (lacking >= 0).nonzero().squeeze(1) if early_stop else torch.arange(len(x), device=x.device)
        if len(rows) == 0:
            break
        keys = generator.at(rows)
        start = origin = x[rows]
        if restart > 0:
            start = threat.sample(origin, keys.normal(2 * restart, tuple(x.shape[1:])), keys.uniform(2 * restart + 1))
        point, short = _climb(
            model.at(rows), origin, start, y[rows], threat, keys, targeted, steps, step_size, early_stop
        )
        better = short < lacking[rows]
        best = best.index_copy(0, rows, torch.where(per_sample(better, point), point, best[rows]))
        lacking = lacking.index_copy(0, rows, torch.where(better, short, lacking[rows]))
    return best


def _climb(
    model: Model,
    origin: Tensor,
    start: Tensor,
    y: Tensor,
    threat: Threat,
    generator: KeyedRandom,
    targeted: bool,
    steps: int,
    step_size: float,
    early_stop: bool,
) -> tuple[Tensor, Tensor]:
    """Run one restart: return each sample's iterate nearest to success (B, C, H, W), and its shortfall (B,)."""
    best, lacking = start.clone(), torch.full_like(y, torch.inf, dtype=start.dtype)
    rows, point = torch.arange(len(start), device=start.device), start  # active samples
    for step in range(steps + 1):
        label = y[rows]
        logits, gradient = value_and_gradient(model, point, partial(loss, y=label, targeted=targeted))
        short = shortfall(logits, label, targeted)
        better = short < lacking[rows]
        best[rows[better]], lacking[rows[better]] = point[better], short[better]
        if step == steps:
            break
        active = short >= 0
        if early_stop and not bool(active.all()):
            rows, point, gradient, model = rows[active], point[active], gradient[active], model.at(active)
            if len(rows) == 0:
                break
        gradient = escape(gradient, generator.at(rows), -1 - step)
        point = threat.project(origin[rows], point + step_size * threat.steepest(gradient))
    return best, lacking
