"""The property of a network's output that a proof has to exclude over a set of inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Goal:
    """D conjunctions of inequalities: an output y satisfies conjunction d if rows[d] . y <= bounds[d] in all S rows.

    rows (D, S, *output_shape), bounds (D, S), float64. A conjunction is excluded if one of its rows is above its bound
    for every input. A conjunction of fewer than S inequalities repeats one of them.
    """

    rows: Tensor
    bounds: Tensor

    def __len__(self) -> int:
        return len(self.bounds)

    def at(self, which: Tensor) -> "Goal":
        return Goal(self.rows[which], self.bounds[which])

    def excess(self, y: Tensor) -> Tensor:
        """Return max(rows . y - bounds) for outputs y (n, *output_shape): (D, n), at most zero where d is satisfied."""
        values = torch.einsum("dsk,nk->dsn", self.rows.flatten(2).to(y.dtype), y.flatten(1))
        return (values - self.bounds.to(y.dtype)[:, :, None]).amax(1)

    @classmethod
    def other_class(cls, label: int, classes: int, shape: tuple[int, ...], slack: float) -> "Goal":
        """Return the goal z_label - z_j <= slack, one conjunction for every other class j.

        If all of them are excluded, the logit of ``label`` exceeds every other one by more than the slack.
        """
        rows = -torch.eye(classes, dtype=torch.float64)
        rows[:, label] += 1
        rows = rows[torch.arange(classes) != label]
        return cls(rows.view(classes - 1, 1, *shape), torch.full((classes - 1, 1), slack, dtype=torch.float64))
