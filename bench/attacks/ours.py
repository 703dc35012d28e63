"""Our contenders, read from the registry."""

from functools import partial
from typing import Any

from torch import Tensor

from bench.attacks.task import Contender, Task
from gauntlet.attacks import ATTACKS, Attack, price
from gauntlet.evaluation import referee
from gauntlet.norms import Norm
from gauntlet.threat import Threat


def affordable(attack: str, steps: int) -> dict[str, Any]:
    """Return the parameter ``steps`` with which all its searches, restarts and targets together take so many steps."""
    one, two = (price(attack, {"steps": count}) for count in (1, 2))
    return {"steps": 1 + max(0, (steps - one) // (two - one))}


def _single(attack: str, task: Task) -> Tensor:
    params = affordable(attack, task.steps)
    return referee.run(task.model, attack, task.x, task.y, Threat("l2"), seed=task.seed, params=params).images


def _strongest(norm: Norm, task: Task) -> Tensor:
    threat = Threat(norm, task.eps)
    return referee.run(task.model, "strongest", task.x, task.y, threat, seed=task.seed).images


def single(attack: str) -> Contender:
    """Return a minimum-norm attack of ours, in L2."""
    return Contender(f"gauntlet {attack}", partial(_single, attack), ours=True)


def minimal() -> tuple[Contender, ...]:
    """Return all our minimum-norm L2 attacks that use gradients."""
    return tuple(
        single(name)
        for name, entry in ATTACKS.items()
        if isinstance(entry, Attack) and entry.minimum_norm and "l2" in entry.norms and entry.access == "gradient"
    )


def strongest(norm: Norm) -> Contender:
    """Return the ensemble ``strongest``, which has no parameter ``steps`` and therefore no cap."""
    return Contender("gauntlet strongest", partial(_strongest, norm), ours=True, capped=False)
