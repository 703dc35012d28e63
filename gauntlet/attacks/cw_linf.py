"""The Linf attack of Carlini and Wagner."""

from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, shortfall, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, per_sample

PATIENCE = 30  # steps without a smaller success before c grows
DENOMINATOR_FLOOR = 1e-12  # avoids division by zero for pixels whose gradient has always been zero
FINEST = 0.995  # a sample stops once tau is this share of its smallest success, or more


@costs(lambda p: p.steps)
def cw_linf(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Annotated[int, Field(ge=1, le=10_000, description="gradient steps, over all values of tau")] = 300,
    step_size: Annotated[float, Field(gt=0, le=1, description="Adam's learning rate, as a share of tau")] = 0.03,
    initial_c: Annotated[float, Field(gt=0, le=1e6, description="first weight of the misclassification term")] = 0.5,
    decrease: Annotated[float, Field(gt=0, le=0.99, description="tau after a success, as a share of its size")] = 0.9,
) -> Tensor:
    """Minimum-norm Linf attack: min c max(0, z_y - max z_j) + sum max(0, |delta| - tau) by Adam, with falling tau.

    Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", arXiv 1608.04644, section VI.C. Each
    success sets tau to a little less than its size; when no smaller success follows, c doubles. Unlike in the paper,
    pixels stay in the box by clipping, since in tanh space black pixels hardly move; the gradient of the logits is
    scaled to a largest entry of 1, so that c has no unit; and when no success follows, tau falls in smaller steps,
    until they are negligible.
    Returns the smallest success of each sample, x itself where there was none. x (B, C, H, W) in [0, 1].
    """
    best, smallest = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    state = _State.start(x, initial_c, decrease)
    for step in range(steps + 1):
        rows, point = state.rows, state.point
        logits, slope = value_and_gradient(model, point, partial(shortfall, y=y[rows], targeted=targeted))
        lacking, delta = shortfall(logits, y[rows], targeted) >= 0, point - x[rows]
        distance = delta.abs()
        size = distance.flatten(1).amax(dim=1)
        won = ~lacking & (size < smallest[rows])
        best[rows[won]], smallest[rows[won]] = point[won], size[won]
        if step == steps:
            break
        state.retune(won, smallest[rows])
        slope = escape(slope, generator.at(rows), step)
        largest = slope.flatten(1).abs().amax(dim=1).clamp_min(TINY)
        push = delta.sign() * (distance > per_sample(state.tau, delta))
        state.descend(torch.addcmul(push, slope, per_sample(state.c * lacking / largest, slope)), step_size)
        active = state.fall < FINEST
        if not bool(active.all()):
            state, model = state.at(active), model.at(active)
            if len(state.rows) == 0:
                break
    return best


@dataclass
class _State:
    """The state of the samples that still improve, one row each."""

    rows: Tensor  # position in the batch
    point: Tensor
    first: Tensor  # Adam's moments, and the number of steps that they average
    second: Tensor
    age: Tensor
    c: Tensor
    tau: Tensor
    fall: Tensor  # tau as a share of the smallest success
    idle: Tensor  # steps since that success, or since tau was changed

    @classmethod
    def start(cls, x: Tensor, c: float, fall: float) -> "_State":
        zero, zeros = torch.zeros_like(x.flatten(1)[:, 0]), torch.zeros_like(x)
        rows = torch.arange(len(x), device=x.device)
        return cls(rows, x, zeros, zeros, zero, zero + c, zero + 1, zero + fall, zero)

    def at(self, rows: Tensor) -> "_State":
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))

    def retune(self, won: Tensor, smallest: Tensor) -> None:
        """Lower tau after a success; after PATIENCE steps without one, double c and lower tau less."""
        self.idle = torch.where(won | smallest.isinf(), 0, self.idle + 1)
        stuck = self.idle == PATIENCE
        self.c = torch.where(stuck, 2 * self.c, self.c)
        self.fall = torch.where(stuck, self.fall.sqrt(), self.fall)
        restart = won | stuck
        self.tau = torch.where(restart, self.fall * smallest, self.tau)
        self.idle, self.age = torch.where(restart, 0, self.idle), torch.where(restart, 0, self.age)

    def descend(self, gradient: Tensor, step_size: float) -> None:
        """Take one step of Adam, in units of tau, clipped to the box. A sample of age 0 restarts its moments."""
        running = per_sample(self.age > 0, gradient)
        self.age = self.age + 1
        self.first = (self.first * (0.9 * running)).add_(gradient, alpha=0.1)
        self.second = (self.second * (0.999 * running)).addcmul_(gradient, gradient, value=0.001)
        bias_correction = (1 - 0.999**self.age).sqrt()
        size = step_size * self.tau * bias_correction / (1 - 0.9**self.age)
        step = (per_sample(size, gradient) * self.first).div_(self.second.sqrt().add_(DENOMINATOR_FLOOR))
        self.point = (self.point - step).clamp_(0, 1)
