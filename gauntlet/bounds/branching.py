"""Branch and bound: split the set of inputs at activations, so that an activation's input lies on one side of a cut.

Bunel et al., "Branch and Bound for Piecewise Linear Neural Network Verification", arXiv 1909.06588; bounds and
multipliers as in Wang et al., "Beta-CROWN", arXiv 2103.06624. ReLUs are cut at zero, sigmoids in the middle.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.bounds.crown import Linearised
from gauntlet.bounds.optimised import Ascent, Branches, Layout, ascend, glance
from gauntlet.bounds.output_property import Goal

STEPS = 8  # of the gradient ascent in each branch
ROOT_STEPS = 20  # before the first cut
LEAF_STEPS = 200  # in a branch that cannot be cut further
CUTS = 8  # places that are compared before a branch is cut
SHOWN = 8  # points of each batch that are passed to ``candidates``
BATCH = 256  # largest number of branches that are bounded together
ROOM = 2**24  # largest number of elements of one array of such a batch


@dataclass
class Progress:
    """The state of the proof: which conjunctions of a goal are excluded, and how many branches that took."""

    excluded: Tensor  # (D,) bool
    bounds: Tensor  # (D,): lower bound of row . y - bound over the open branches, by the best row of each branch
    branches: int
    complete: bool  # False: some branches were still open at the deadline, or could not be cut further


@dataclass
class _Open:
    """Branches that are not excluded yet, one row for each."""

    which: Tensor  # (n,) index of the conjunction
    low: Tensor  # (n, 1, U)
    high: Tensor
    places: Tensor  # (2, n, S, U)
    multipliers: Tensor
    margin: Tensor  # (n,)
    cut: Tensor  # (n, k) the places to cut next, the most promising first; -1: no place is left

    def at(self, rows: Tensor | slice) -> "_Open":
        return _Open(
            self.which[rows],
            self.low[rows],
            self.high[rows],
            self.places[:, rows],
            self.multipliers[:, rows],
            self.margin[rows],
            self.cut[rows],
        )


def branch_and_bound(
    state: Linearised,
    goal: Goal,
    deadline: float,
    candidates: Callable[[Tensor], bool] = lambda _: False,
    root_steps: int = ROOT_STEPS,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Progress:
    """Try to exclude each conjunction of the goal until the deadline (a time of time.perf_counter).

    ``candidates`` is called with points (n, *input_shape) where a bound is lowest; if it returns True, the search ends.
    ``check_cancelled`` runs at every step and ends the search by raising.
    """
    layout = Layout.of(state, state.network.output)
    low, high = (end[None, None].expand(len(goal.rows), 1, -1) for end in layout.limits())
    places = layout.places(low, high).float().expand(2, *goal.bounds.shape, layout.size)
    start = Branches(low, high, places, torch.zeros_like(places))
    found = ascend(layout, state.region, goal.rows, start, root_steps, goal.bounds.float(), deadline, check_cancelled)
    margin = (found.bounds - goal.bounds).amax(1)
    progress = Progress(margin > 0, margin, len(margin), complete=False)
    waiting = _Open(
        torch.arange(len(margin)), low, high, found.places, found.multipliers, margin, _next(layout, start, found)
    )
    waiting = waiting.at((~(margin > 0)).nonzero().squeeze(1))
    size = max(2, min(BATCH, ROOM // max(1, _widest(state))) // 2)
    while len(waiting.which) and time.perf_counter() < deadline:
        if bool((waiting.cut[:, 0] < 0).all()):
            settled = _settle(layout, goal, waiting.at(slice(0, size)), deadline, check_cancelled)
            if settled is None:
                break
            waiting = _joined(settled, waiting.at(slice(size, None)))
            _report(progress, waiting)
            continue
        stuck = waiting.cut[:, 0] < 0
        order = waiting.margin.masked_fill(stuck, torch.inf).argsort()
        count = min(size, int((~stuck).sum()))
        taken, rest = waiting.at(order[:count]), waiting.at(order[count:])
        children, points = _divide(layout, goal, taken, deadline, check_cancelled)
        progress.branches += len(children.which)
        if candidates(points):
            break
        waiting = _joined(children.at((~(children.margin > 0)).nonzero().squeeze(1)), rest)
        _report(progress, waiting)
    progress.complete = len(waiting.which) == 0
    return progress


def _report(progress: Progress, waiting: _Open) -> None:
    """Update ``progress`` from the branches that are still open."""
    for which in (~progress.excluded).nonzero().squeeze(1):
        left = waiting.margin[waiting.which == which]
        progress.excluded[which] = len(left) == 0
        progress.bounds[which] = left.min() if len(left) else 0.0


def _settle(
    layout: Layout, goal: Goal, leaves: _Open, deadline: float, check_cancelled: Callable[[], None]
) -> _Open | None:
    """Run a longer ascent in branches that cannot be cut further, and return those that are still open.

    In such branches only the multipliers are free. Return None if the ascent excluded none of them.
    """
    part = goal.at(leaves.which)
    branches = Branches(leaves.low, leaves.high, leaves.places, leaves.multipliers)
    searched = layout, layout.state.region, part.rows, branches, LEAF_STEPS
    found = ascend(*searched, part.bounds.float(), deadline, check_cancelled)
    margin = torch.maximum((found.bounds - part.bounds).amax(1), leaves.margin)
    still = (~(margin > 0)).nonzero().squeeze(1)
    if len(still) == len(margin):
        return None
    after = _Open(leaves.which, leaves.low, leaves.high, found.places, found.multipliers, margin, leaves.cut)
    return after.at(still)


def _widest(state: Linearised) -> int:
    return max(low.numel() for low, _ in state.intervals.values())


def _divide(
    layout: Layout, goal: Goal, parents: _Open, deadline: float, check_cancelled: Callable[[], None]
) -> tuple[_Open, Tensor]:
    """Cut each branch and bound both halves. Return the halves, and the points where the bounds are lowest."""
    part = goal.at(parents.which.repeat(2))
    branches = _halves(layout, parents, _best_cut(layout, goal, parents, check_cancelled))
    searched = layout, layout.state.region, part.rows, branches, STEPS
    found = ascend(*searched, part.bounds.float(), deadline, check_cancelled)
    margins = found.bounds - part.bounds
    margin = torch.maximum(margins.amax(1), parents.margin.repeat(2))
    children = _Open(
        parents.which.repeat(2),
        branches.low,
        branches.high,
        found.places,
        found.multipliers,
        margin,
        _next(layout, branches, found),
    )
    assert found.trace.input is not None
    least = margin.argsort()[:SHOWN]
    region = layout.state.region[torch.zeros_like(least)]
    return children, region.minimiser(found.trace.input[least, margins[least].argmax(1)])


def _halves(layout: Layout, parents: _Open, cut: Tensor) -> Branches:
    """Cut every branch at its place in ``cut`` (n,). Return all lower halves, then all upper ones."""
    low, high = parents.low.repeat(2, 1, 1), parents.high.repeat(2, 1, 1)
    middle = layout.cut(parents.low, parents.high)
    rows = torch.arange(len(cut))
    high[rows, 0, cut] = low[rows + len(cut), 0, cut] = middle[rows, 0, cut]
    return Branches(low, high, parents.places.repeat(1, 2, 1, 1), parents.multipliers.repeat(1, 2, 1, 1))


def _best_cut(layout: Layout, goal: Goal, parents: _Open, check_cancelled: Callable[[], None]) -> Tensor:
    """Return the place (n,), among each branch's k places, whose worse half has the highest bound without an ascent.

    De Palma et al., "Improved Branch and Bound for Neural Network Verification via Lagrangian Decomposition", arXiv
    2104.06718, call this filtered smart branching.
    """
    part = goal.at(parents.which.repeat(2))
    scores = []
    for cut in parents.cut.unbind(1):
        check_cancelled()
        halves = _halves(layout, parents, cut.clamp_min(0))
        bounds = glance(layout, layout.state.region, part.rows, halves) - part.bounds.float()
        worse = bounds.amax(1).view(2, -1).amin(0)
        scores.append(worse.masked_fill(cut < 0, -torch.inf))
    best = torch.stack(scores, 1).nan_to_num(-torch.inf).argmax(1)
    return parents.cut.gather(1, best[:, None]).squeeze(1)


def _next(layout: Layout, branches: Branches, found: Ascent) -> Tensor:
    """Return the places to cut next in each branch, (B, k): those that cost its bound most; -1 where none is left."""
    worst = layout.gaps(branches.low, branches.high, found.trace.outputs)
    worst = torch.nn.functional.pad(worst, (0, CUTS))
    value, place = worst.topk(CUTS, dim=1)
    return torch.where(value > 0, place, -1)


def _joined(*parts: _Open) -> _Open:
    return _Open(
        torch.cat([p.which for p in parts]),
        torch.cat([p.low for p in parts]),
        torch.cat([p.high for p in parts]),
        torch.cat([p.places for p in parts], 1),
        torch.cat([p.multipliers for p in parts], 1),
        torch.cat([p.margin for p in parts]),
        torch.cat([p.cut for p in parts]),
    )
