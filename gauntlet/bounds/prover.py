"""Exclude a goal over a set of inputs: bounds from cheap to dear, until one suffices or the time is over."""

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
"""Multiplications a second that one core is taken to do: decides what is worth refining, not what is true."""
SHARES = {"crown": 0.2, "alpha-crown": 0.5}  # of the time, that bounding the layers may take
STEPS = 20  # of an ascent for each bound of a layer
DEAR = 4  # an ascent's step in float32 costs so many passes in float64, over two
FINAL_STEPS = 60  # of an ascent for the goal
ROWS = 64  # of a goal that an ascent takes at once


@dataclass(frozen=True)
class Proof:
    """How far a goal was excluded."""

    margins: Tensor  # (D,) lower bounds of the best row's excess: excluded where positive
    method: Method  # the last that was needed, or tried
    branches: int = 0
    complete: bool = True  # False: time was over before the last method was through
    found: bool = False  # the judge has seen what satisfies the goal

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
    """Bound the goal's rows over one set of inputs by the methods in turn, until the deadline of time.perf_counter.

    Each method bounds what those before it left. The judge hears of points where a bound is least. ``check_cancelled``
    runs at every step and ends the proof by raising.
    """
    least = interval_excess(network, region, goal.rows.flatten(0, 1)[None])
    proof = Proof((least.view_as(goal.bounds) - goal.bounds).amax(1), "interval")
    known: dict[str, Interval] = {}
    begun = time.perf_counter()
    for method in METHODS[1:]:
        if proof.excluded or time.perf_counter() > deadline:
            break
        if method not in methods:
            continue
        check_cancelled()
        left = (~(proof.margins > 0)).nonzero().squeeze(1)
        if method == "branch-and-bound":
            state = linearise(network, region, lambda *_: None, known)
            return _branch(state, goal, left, proof, deadline, judge, check_cancelled)
        until = min(deadline, begun + SHARES[method] * (deadline - begun))
        state = linearise(network, region, _Effort(method, until, network, check_cancelled), known)
        known = state.intervals
        margins = proof.margins.clone()
        found = _margins(state, goal.at(left), method, deadline, check_cancelled)
        margins[left] = torch.maximum(margins[left], found)
        proof = Proof(margins, method)
    return proof if proof.excluded else replace(proof, complete=time.perf_counter() <= deadline)


def _branch(
    state: Linearised,
    goal: Goal,
    left: Tensor,
    proof: Proof,
    deadline: float,
    judge: Judge,
    check_cancelled: Callable[[], None],
) -> Proof:
    seen: list[bool] = []

    def heard(points: Tensor) -> bool:
        seen.append(judge(points))
        return seen[-1]

    done = branch_and_bound(state, goal.at(left), deadline, heard, check_cancelled=check_cancelled)
    margins = proof.margins.clone()
    better = torch.maximum(margins[left], done.bounds)
    margins[left] = torch.where(done.excluded, better.clamp_min(torch.finfo(better.dtype).tiny), better.clamp_max(0))
    return Proof(margins, "branch-and-bound", done.branches, done.complete, any(seen))


def _margins(
    state: Linearised, goal: Goal, method: Method, deadline: float, check_cancelled: Callable[[], None]
) -> Tensor:
    """The best row's excess of each conjunction (D,)."""
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
    """What a layer's bounds may cost: an equal share of the time for each layer, alpha-CROWN where that suffices."""

    method: Method
    until: float
    network: Network
    check_cancelled: Callable[[], None]

    def __call__(self, step: Step, index: Tensor, state: Linearised) -> Interval | None:
        rest = self.until - time.perf_counter()
        layers = [activation.name for activation in self.network.activations]
        left = sum(name not in state.intervals for name in layers)
        speed = SPEED * torch.get_num_threads()
        allowed = rest * speed / max(1, left)
        price = cost(step, index, state)
        if self.method == "alpha-crown" and price * STEPS * DEAR / 2 <= allowed:
            known = step, index, state
            return optimised_interval(*known, steps=STEPS, deadline=self.until, check_cancelled=self.check_cancelled)
        if price > allowed or self.method != "crown":
            return None
        return crown_interval(step, index, state, self.check_cancelled)
