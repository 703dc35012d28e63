"""Auto-PGD: projected gradient descent that adapts its step size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs, escape, loss, shortfall, span, value_and_gradient
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, per_sample

MOMENTUM = 0.25
IMPROVING = 0.75  # share of the steps since the last check that must have raised the objective, or the step halves

Steps = Annotated[int, Field(ge=1, le=10_000, description="gradient steps per run")]


@costs(lambda p: p.steps * p.restarts)
def apgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    steps: Steps = 100,
    restarts: Annotated[int, Field(ge=1, le=100, description="the first starts at the image, the rest at random")] = 1,
    objective: Annotated[
        Literal["ce", "dlr"], Field(description="cross-entropy, or difference of logits ratio")
    ] = "ce",
) -> Tensor:
    """Projected gradient ascent with momentum; when progress stalls, the step size halves, from the best point so far.

    Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
    arXiv 2003.01690. Two differences: the cross-entropy is of logits divided by their span at x, so that the objective
    does not depend on their scale, and momentum is reset on a return to the best point. A sample stops at its first
    success. Returns that, or the iterate nearest to success. x (B, C, H, W) in [0, 1].
    """
    with torch.no_grad():
        reach = span(model(x))
    measure = dlr if objective == "dlr" else loss
    best, lacking = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    for restart in range(restarts):
        rows = (lacking >= 0).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        keys, origin = generator.at(rows), x[rows]
        start = origin
        if restart > 0:
            start = threat.sample(origin, keys.normal(2 * restart, tuple(x.shape[1:])), keys.uniform(2 * restart + 1))
        functions = partial(shortfall, targeted=targeted), partial(_targeted if targeted else _untargeted, measure)
        objective_args = (y[rows],) if objective == "dlr" else (y[rows], reach[rows])
        point, short = _climb(model.at(rows), origin, start, objective_args, threat, keys, steps, *functions)
        better = short < lacking[rows]
        best[rows[better]], lacking[rows[better]] = point[better], short[better]
    return best


@costs(lambda p: p.steps * p.targets)
def apgd_t(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    steps: Steps = 100,
    targets: Annotated[int, Field(ge=1, le=1_000, description="how many of the likeliest other classes to try")] = 9,
) -> Tensor:
    """APGD towards each of the likeliest other classes in turn, on the targeted difference of logits ratio.

    Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
    arXiv 2003.01690. Any class but y is a success; a sample stops at its first one. With fewer than four classes, where
    the ratio does not exist, the objective is the plain difference of logits. x (B, C, H, W) in [0, 1].
    """
    best, lacking = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    with torch.no_grad():
        likeliest = model(x).scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    for number in range(min(targets, likeliest.shape[1] - 1)):
        rows = (lacking >= 0).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        pair = y[rows], likeliest[rows, number]
        functions = partial(shortfall, targeted=False), dlr_towards
        point, short = _climb(model.at(rows), x[rows], x[rows], pair, threat, generator.at(rows), steps, *functions)
        better = short < lacking[rows]
        best[rows[better]], lacking[rows[better]] = point[better], short[better]
    return best


def dlr(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Return the difference of logits ratio (B,), signed so that the attacker maximises it.

    It does not depend on the scale of the logits (B, K). Targeted, it is divided by the span of the four largest
    logits, which the target class alone cannot make zero.
    """
    needed = 4 if targeted else 3
    if logits.shape[1] < needed:
        return -shortfall(logits, y, targeted)
    first, _, *rest = logits.topk(needed, dim=1).values.unbind(1)
    return -shortfall(logits, y, targeted) / (first - sum(rest) / len(rest)).clamp_min(TINY)


def dlr_towards(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return the targeted ratio (B,): (z_target - z_y) over the span of the four largest logits (B, K)."""
    gap = (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
    if logits.shape[1] < 4:
        return gap
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(1)
    return gap / (first - (third + fourth) / 2).clamp_min(TINY)


@dataclass
class _State:
    """The state of the samples that have not succeeded yet, one row each."""

    rows: Tensor  # position in the batch
    point: Tensor
    previous: Tensor
    gradient: Tensor
    value: Tensor  # the objective at point
    climbs: Tensor  # steps since the last check that raised the objective
    size: Tensor  # step size
    peak: Tensor  # the point with the highest objective, its gradient, and the objective there
    peak_gradient: Tensor
    height: Tensor
    seen_size: Tensor  # size and height at the last check
    seen_height: Tensor

    @classmethod
    def start(cls, point: Tensor, size: float) -> "_State":
        lowest = torch.full_like(point.flatten(1)[:, 0], -torch.inf)
        rows, zero = torch.arange(len(point), device=point.device), torch.zeros_like(point)
        sizes, none = torch.full_like(lowest, size), torch.zeros_like(lowest)
        return cls(rows, point, point, zero, lowest, none, sizes, point, zero, lowest, sizes, lowest)

    def at(self, rows: Tensor) -> "_State":
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))

    def record(self, value: Tensor) -> None:
        """Record the objective (B,) measured at the point, and update the peak."""
        self.climbs = self.climbs + ((value > self.value) & (self.value > -torch.inf))  # the start does not count
        self.value = value
        higher = value > self.height
        self.height = torch.where(higher, value, self.height)
        self.peak = torch.where(per_sample(higher, self.peak), self.point, self.peak)
        self.peak_gradient = torch.where(per_sample(higher, self.peak), self.gradient, self.peak_gradient)

    def adapt_step_size(self, since: int) -> None:
        """Halve the step size of samples that the last ``since`` steps did not improve, and return them to the peak."""
        idle = (self.size == self.seen_size) & (self.height == self.seen_height)
        stuck = idle | (self.climbs < IMPROVING * since)
        self.seen_size, self.seen_height = self.size, self.height
        self.size = torch.where(stuck, self.size / 2, self.size)
        back = per_sample(stuck, self.point)
        self.point = torch.where(back, self.peak, self.point)
        self.previous = torch.where(back, self.peak, self.previous)
        self.gradient = torch.where(back, self.peak_gradient, self.gradient)
        self.climbs = torch.zeros_like(self.climbs)

    def move(self, origin: Tensor, threat: Threat, momentum: float) -> None:
        """Take a step along the gradient, a share ``momentum`` of it replaced by the same share of the last move."""
        step = per_sample(self.size, self.point) * threat.steepest(self.gradient)
        ahead = threat.project(origin, self.point + step)
        drift = momentum * (self.point - self.previous - (ahead - self.point))
        self.previous, self.point = self.point, threat.project(origin, ahead + drift)


def _climb(
    model: Model,
    origin: Tensor,
    start: Tensor,
    objective_args: Sequence[Tensor],
    threat: Threat,
    generator: KeyedRandom,
    steps: int,
    measure_shortfall: Callable[..., Tensor],
    objective: Callable[..., Tensor],
) -> tuple[Tensor, Tensor]:
    """Run one ascent: return each sample's iterate nearest to success (B, C, H, W), and its shortfall (B,).

    ``objective_args``, (B,) each, are the arguments of ``objective`` besides the logits; the first is the class that
    ``measure_shortfall`` gets.
    """
    best, lacking = start.clone(), torch.full_like(start.flatten(1)[:, 0], torch.inf)
    state, checks, last = _State.start(start, 2 * threat.radius), _check_steps(steps), 0
    for step in range(steps + 1):
        aim = partial(_with_args, objective, [part[state.rows] for part in objective_args])
        logits, state.gradient = value_and_gradient(model, state.point, aim)
        short = measure_shortfall(logits, objective_args[0][state.rows])
        better = short < lacking[state.rows]
        best[state.rows[better]], lacking[state.rows[better]] = state.point[better], short[better]
        state.record(aim(logits))
        if step == steps:
            break
        if step in checks:
            state.adapt_step_size(step - last)
            last = step
        active = short >= 0
        if not bool(active.all()):
            state, model = state.at(active), model.at(active)
            if len(state.rows) == 0:
                break
        state.gradient = escape(state.gradient, generator.at(state.rows), -1 - step)
        state.move(origin[state.rows], threat, MOMENTUM if step else 0.0)
    return best, lacking


def _with_args(objective: Callable[..., Tensor], objective_args: Sequence[Tensor], logits: Tensor) -> Tensor:
    return objective(logits, *objective_args)


def _untargeted(measure: Callable[..., Tensor], logits: Tensor, y: Tensor, *rest: Tensor) -> Tensor:
    return measure(logits, y, False, *rest)


def _targeted(measure: Callable[..., Tensor], logits: Tensor, y: Tensor, *rest: Tensor) -> Tensor:
    return measure(logits, y, True, *rest)


def _check_steps(steps: int) -> set[int]:
    """Return the steps at which the step size may halve: after 22 % of them, then at intervals that shrink to 6 %."""
    marks, percent, interval = set(), 0, 22
    while percent + interval < 100:
        percent += interval
        marks.add(-(-percent * steps // 100))
        interval = max(interval - 3, 6)
    return marks
