"""Exclude a goal over a set of inputs: try bounds from cheap to expensive, until one suffices or the time is over."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from gauntlet.bounds.branching import branch_and_bound
from gauntlet.bounds.crown import Linearised, cost, crown_interval, linearise
from gauntlet.bounds.interval import Interval, interval_excess
from gauntlet.bounds.network import Network, Step
from gauntlet.bounds.optimised import Layout, ascend, optimised_interval, root
from gauntlet.bounds.output_property import Goal
from gauntlet.bounds.region import Region
from gauntlet.bounds.search import Judge

Method = Literal["interval", "crown", "alpha-crown", "branch-and-bound"]
METHODS: tuple[Method, ...] = get_args(Method)
SPEED = 1e9
"""Assumed multiplications per second of one core. It decides which bounds are worth refining, never what is proved."""
TIME_SHARES = {"crown": 0.2, "alpha-crown": 0.5}  # part of the time that bounding the layers may take
STEPS = 20  # of the gradient ascent for the bounds of a layer
STEP_COST = 4  # one step of an ascent in float32 costs as much as STEP_COST / 2 passes in float64
FINAL_STEPS = 60  # of the gradient ascent for the goal
ROWS = 64  # rows of a goal that one ascent takes


@dataclass(frozen=True)
class Proof:
    """The result of trying to exclude a goal: which of its conjunctions are excluded, by which method."""

    margins: Tensor  # (D,) lower bounds of the best row's excess: excluded where positive
    method: Method  # the last one that was needed or tried
    branches: int = 0
    complete: bool = True  # False: the deadline passed before the last method had finished
    found: bool = False  # the judge accepted a point that satisfies the goal

    @property
    def excluded(self) -> bool:
        return bool((self.margins > 0).all())


def exclude(
    network: Network,
    region: Region,
    goal: Goal,
    deadline: float,
    methods: Sequence[Method] = METHODS,
    judge: Judge = lambda _: False,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Proof:
    """Try to exclude the goal over one set of inputs by each method in turn, until ``deadline`` (time.perf_counter).

    Each method bounds only the conjunctions that the methods before it could not exclude. Branch and bound passes the
    points where a bound is lowest to ``judge``. ``check_cancelled`` runs at every step and ends the proof by raising.
    """
    least = interval_excess(network, region, goal.rows.flatten(0, 1)[None])
    proof = Proof((least.view_as(goal.bounds) - goal.bounds).amax(1), "interval")
    known: dict[str, Interval] = {}
    started = time.perf_counter()
    for method in METHODS[1:]:
        if proof.excluded or time.perf_counter() > deadline:
            break
        if method not in methods:
            continue
        check_cancelled()
        remaining = (~(proof.margins > 0)).nonzero().squeeze(1)
        if method == "branch-and-bound":
            state = linearise(network, region, lambda *_: None, known)
            return _branch(state, goal, remaining, proof, deadline, judge, check_cancelled)
        until = min(deadline, started + TIME_SHARES[method] * (deadline - started))
        state = linearise(network, region, _Effort(method, until, network, check_cancelled), known)
        known = state.intervals
        margins = proof.margins.clone()
        bounds = _margins(state, goal.at(remaining), method, deadline, check_cancelled)
        margins[remaining] = torch.maximum(margins[remaining], bounds)
        proof = Proof(margins, method)
    return proof if proof.excluded else replace(proof, complete=time.perf_counter() <= deadline)


def _branch(
    state: Linearised,
    goal: Goal,
    remaining: Tensor,
    proof: Proof,
    deadline: float,
    judge: Judge,
    check_cancelled: Callable[[], None],
) -> Proof:
    verdicts: list[bool] = []

    def recording_judge(points: Tensor) -> bool:
        verdicts.append(judge(points))
        return verdicts[-1]

    done = branch_and_bound(state, goal.at(remaining), deadline, recording_judge, check_cancelled=check_cancelled)
    margins = proof.margins.clone()
    better = torch.maximum(margins[remaining], done.bounds)
    positive = better.clamp_min(torch.finfo(better.dtype).tiny)
    margins[remaining] = torch.where(done.excluded, positive, better.clamp_max(0))
    return Proof(margins, "branch-and-bound", done.branches, done.complete, any(verdicts))


def _margins(
    state: Linearised, goal: Goal, method: Method, deadline: float, check_cancelled: Callable[[], None]
) -> Tensor:
    """Return a lower bound of the best row's excess for each conjunction, (D,)."""
    rows = goal.rows.flatten(0, 1)
    if method == "crown":
        bounds = state.lower(rows)
    else:
        layout, parts = Layout.of(state, state.network.output), []
        for part in torch.split(rows, ROWS):
            searched = layout, state.region, part[None], root(layout, len(part)), FINAL_STEPS
            parts.append(ascend(*searched, None, deadline, check_cancelled).bounds[0])
        bounds = torch.cat(parts)
    return (bounds.view_as(goal.bounds) - goal.bounds).amax(1)


@dataclass(frozen=True)
class _Effort:
    """Bounds a layer within its equal share of the remaining time, by alpha-CROWN if the share suffices for it."""

    method: Method
    until: float
    network: Network
    check_cancelled: Callable[[], None]

    def __call__(self, step: Step, index: Tensor, state: Linearised) -> Interval | None:
        seconds_left = self.until - time.perf_counter()
        layers = [activation.name for activation in self.network.activations]
        layers_left = sum(name not in state.intervals for name in layers)
        speed = SPEED * torch.get_num_threads()
        allowed = seconds_left * speed / max(1, layers_left)
        price = cost(step, index, state)
        if self.method == "alpha-crown" and price * STEPS * STEP_COST / 2 <= allowed:
            known = step, index, state
            return optimised_interval(*known, steps=STEPS, deadline=self.until, check_cancelled=self.check_cancelled)
        if price > allowed or self.method != "crown":
            return None
        return crown_interval(step, index, state, self.check_cancelled)
