"""Several attacks in turn, each on what still stands, the best of them image by image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gauntlet.attacks.strongest import Member
from gauntlet.evaluation.outcome import Outcome
from gauntlet.evaluation.query_counter import Budget
from gauntlet.threat import Threat

NEAR = 0.05  # of what an image lacked at first: what still lacks less is tried again alone


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
    """Images x (n, C, H, W) with labels y (n,) under each member by ``run``.

    ``index`` (n,) are their places, ``target`` (n,) the classes to reach, if any. At a fixed eps the first success
    counts and ends an image, and ``again`` is run on each image that came near one, alone; without an eps the smallest
    success counts. A ``budget`` is that of all members together; what was found when it ends is returned.
    """

    def meet(member: Member, rows: Tensor, best: Outcome | None) -> Outcome:
        name, params = member
        left = budget and budget.after(0 if best is None else int(best.queries[rows].max()))
        aim = None if target is None else target[rows]
        found = run(name, x[rows], y[rows], index=index[rows], target=aim, params=params, budget=left)
        if best is None:
            return found
        better = found.success & ~(best.size(threat.norm)[rows] <= found.size(threat.norm))
        return best.merged(found, rows, better)

    first, *others = members
    best = meet(first, torch.arange(len(x)), None)
    for member in others:
        rows = torch.arange(len(x)) if threat.eps is None else best.robust.nonzero().squeeze(1)
        if len(rows) == 0:
            break
        best = meet(member, rows, best)
    if again is not None:
        for row in (best.robust & (best.lacking < NEAR)).nonzero():
            best = meet(again, row, best)
    return best
