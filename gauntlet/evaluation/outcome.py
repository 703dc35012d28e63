"""What an attack did, image by image, as the referee measured it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gauntlet.norms import NORMS, Norm


@dataclass(frozen=True)
class Outcome:
    """What an attack did to n images; ``images`` are those that all the rest describes."""

    images: Tensor  # (n, C, H, W) float32 in [0, 1]
    clean_label: Tensor  # (n,) int64
    adversarial_label: Tensor  # (n,) int64
    correct: Tensor  # (n,) bool: clean_label == y
    success: Tensor  # (n,) bool
    lacking: Tensor  # (n,) float32 logits that ``images`` lack for a success, as a share of what the clean ones lack
    l2: Tensor  # (n,) float64, of ``images``
    linf: Tensor
    l1: Tensor
    l0: Tensor
    minimal: dict[Norm, Tensor]  # (n,) float64 each, of the float32 result: inf where failed; NaN without a search
    queries: Tensor  # (n,) int64 evaluations by the attack
    finished: Tensor  # (n,) bool: False where a budget ended the attack before it was through
    by: list[str]  # n: the attack whose result it is; of an ensemble, the member
    seconds: float

    @property
    def robust(self) -> Tensor:
        """(n,) bool: right at first, and not broken."""
        return self.correct & ~self.success

    def size(self, norm: Norm) -> Tensor:
        """How far each success went (n,): by its unrounded result where that was searched for; infinite if none."""
        found = self.minimal[norm]
        reach: Tensor = torch.where(found.isnan(), getattr(self, norm), found)
        return torch.where(self.success, reach, torch.inf)

    def merged(self, other: "Outcome", rows: Tensor, better: Tensor) -> "Outcome":
        """With another's outcome for rows (m,): its images where it is ``better`` (m,) bool, its effort everywhere.

        ``lacking`` is then the least that any image of the two lacked.
        """
        place = rows[better]
        taken: dict[str, Any] = {"queries": self.queries.index_add(0, rows, other.queries)}
        taken["lacking"] = self.lacking.index_copy(0, rows, torch.minimum(self.lacking[rows], other.lacking))
        taken["finished"] = self.finished.index_copy(0, rows, self.finished[rows] & other.finished)
        for name in ("images", "adversarial_label", "success", *NORMS):
            taken[name] = getattr(self, name).index_copy(0, place, getattr(other, name)[better])
        taken["minimal"] = {
            norm: sizes.index_copy(0, place, other.minimal[norm][better]) for norm, sizes in self.minimal.items()
        }
        taken["by"] = list(self.by)
        for row, winner in zip(place.tolist(), better.nonzero().squeeze(1).tolist(), strict=True):
            taken["by"][row] = other.by[winner]
        return dataclasses.replace(self, seconds=self.seconds + other.seconds, **taken)
