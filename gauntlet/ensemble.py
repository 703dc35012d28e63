"""The strongest attack there is here: several in turn, each on what still stands, the best of them image by image.

As in AutoAttack (Croce and Hein, arXiv 2003.01690) white-box attacks of different kinds come first and a black-box
attack last, so that masked gradients are not taken for robustness.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gauntlet import referee
from gauntlet.errors import InvalidInput
from gauntlet.metered import Budget
from gauntlet.norms import Norm
from gauntlet.runtime import Classifier
from gauntlet.threat import Threat

Member = tuple[str, dict[str, Any]]

WITHIN: dict[Norm, tuple[Member, ...]] = {
    "linf": (("apgd", {}), ("apgd-t", {}), ("fmn", {"steps": 100}), ("square", {"queries": 2000})),
    "l2": (("apgd", {}), ("apgd-t", {}), ("fab", {}), ("square", {"queries": 2000})),
}
"""At a fixed eps: the first success counts."""

NEAREST: dict[Norm, tuple[Member, ...]] = {
    "linf": (("fmn", {"steps": 150}), ("cw-linf", {})),
    "l2": (("fab", {"steps": 200, "targets": 4}), ("alma", {"steps": 500})),
    "l1": (("fmn", {"steps": 150}), ("alma", {"steps": 500})),
    "l0": (("fmn", {"steps": 150}),),
}
"""Without an eps: the smallest success counts."""


@dataclass(frozen=True)
class Strongest:
    """What the ensemble did; ``attack`` names, image by image, whose result it is, and is empty where all failed."""

    outcome: referee.Outcome
    attack: list[str]


def strongest(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    stop: Callable[[], None] = lambda: None,
) -> Strongest:
    """Images x (n, C, H, W) in [0, 1] with labels y (n,), under every member of the ensemble for the threat.

    A ``budget`` is that of all members together; what was found when it ends is returned. Raises InvalidInput where
    there is no ensemble for the norm, and what ``stop`` raises.
    """
    members = (NEAREST if threat.eps is None else WITHIN).get(threat.norm)
    if members is None:
        raise InvalidInput(f"there is no ensemble for {threat.norm} at a fixed eps", "norm")
    index = torch.arange(len(x))
    best: referee.Outcome | None = None
    names = [""] * len(x)
    for name, params in members:
        rows = index if best is None or threat.eps is None else (best.correct & ~best.success).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        left = budget and budget.after(0 if best is None else int(best.queries[rows].max()))
        found = referee.run(
            model, name, x[rows], y[rows], threat, seed=seed, index=rows, params=params, budget=left, stop=stop
        )
        if best is None:
            best, better = found, found.success
        else:
            better = found.success & ~(best.size(threat.norm)[rows] <= found.size(threat.norm))
            best = best.merged(found, rows, better)
        for row in rows[better].tolist():
            names[row] = name
    assert best is not None
    return Strongest(best, names)
