"""Run several attacks in turn, at a fixed eps on the images not broken yet, and keep the best result per image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gauntlet.attacks.strongest import Member
from gauntlet.evaluation.outcome import Outcome
from gauntlet.evaluation.query_counter import Budget
from gauntlet.threat import Threat

NEAR = 0.05  # an image is retried in a batch of its own if its shortfall is below this share of its clean shortfall


def in_turn(
    run: Callable[..., Outcome],
    members: Sequence[Member],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    index: Tensor,
    target: Tensor | None = None,
    again: Member | None = None,
    budget: Budget | None = None,
) -> Outcome:
    """Attack images x (n, C, H, W) with labels y (n,) with each member, through ``run``, and merge the outcomes.

    ``index`` (n,) are their positions in the data set, ``target`` (n,) the target classes, if any. At a fixed eps the
    first success counts and no further member attacks that image; finally ``again`` attacks each almost broken image
    in a batch of its own. Without an eps the smallest success counts. All members share the ``budget``; when it is used
    up, the successes found so far are returned.
    """

    def attack_with(member: Member, rows: Tensor, best: Outcome | None) -> Outcome:
        name, params = member
        remaining = budget and budget.after(0 if best is None else int(best.queries[rows].max()))
        goal = None if target is None else target[rows]
        found = run(name, x[rows], y[rows], index=index[rows], target=goal, params=params, budget=remaining)
        if best is None:
            return found
        better = found.success & ~(best.size(threat.norm)[rows] <= found.size(threat.norm))
        return best.merged(found, rows, better)

    first, *others = members
    best = attack_with(first, torch.arange(len(x)), None)
    for member in others:
        rows = torch.arange(len(x)) if threat.eps is None else best.robust.nonzero().squeeze(1)
        if len(rows) == 0:
            break
        best = attack_with(member, rows, best)
    if again is not None:
        for row in (best.robust & (best.lacking < NEAR)).nonzero():
            best = attack_with(again, row, best)
    return best
