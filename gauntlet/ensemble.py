"""Several attacks in turn, each on what still stands, the best of them image by image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gauntlet.attacks.strongest import Member
from gauntlet.metered import Budget
from gauntlet.outcome import Outcome
from gauntlet.threat import Threat


def in_turn(
    run: Callable[..., Outcome],
    members: Sequence[Member],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    index: Tensor,
    budget: Budget | None,
) -> Outcome:
    """Images x (n, C, H, W) with labels y (n,) and places ``index`` (n,), under each member by ``run``.

    At a fixed eps the first success counts and ends an image; without one, the smallest. A ``budget`` is that of all
    members together; what was found when it ends is returned.
    """
    best: Outcome | None = None
    for name, params in members:
        rows = torch.arange(len(x))
        if best is not None and threat.eps is not None:
            rows = best.robust.nonzero().squeeze(1)
            if len(rows) == 0:
                break
        left = budget and budget.after(0 if best is None else int(best.queries[rows].max()))
        found = run(name, x[rows], y[rows], index=index[rows], params=params, budget=left)
        if best is None:
            best = found
        else:
            best = best.merged(found, rows, found.success & ~(best.size(threat.norm)[rows] <= found.size(threat.norm)))
    assert best is not None
    return best
