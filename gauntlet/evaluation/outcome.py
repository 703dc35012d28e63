"""The outcome of an attack, image by image, as the referee measured it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gauntlet.norms import NORMS, Norm


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attack on n images. The other fields describe ``images``, unless stated otherwise."""

    images: Tensor  # (n, C, H, W) float32 in [0, 1]
    clean_label: Tensor  # (n,) int64
    adversarial_label: Tensor  # (n,) int64
    correct: Tensor  # (n,) bool: clean_label == y
    success: Tensor  # (n,) bool
    lacking: Tensor  # (n,) float32 shortfall of ``images``, as a share of the clean shortfall; negative: success
    l2: Tensor  # (n,) float64 distance of ``images``; linf, l1 and l0 alike
    linf: Tensor
    l1: Tensor
    l0: Tensor
    minimal: dict[Norm, Tensor]  # (n,) float64 each, before 8-bit rounding: inf if failed; NaN unless minimum-norm
    queries: Tensor  # (n,) int64 evaluations by the attack
    finished: Tensor  # (n,) bool: False where the budget stopped the attack
    by: list[str]  # n: the attack that gave the result; in an ensemble, the member
    seconds: float

    @property
    def robust(self) -> Tensor:
        """(n,) bool: classified correctly, and not broken."""
        return self.correct & ~self.success

    def size(self, norm: Norm) -> Tensor:
        """Return the length of each success (n,), before 8-bit rounding if the attack is minimum-norm; else inf."""
        found = self.minimal[norm]
        reach: Tensor = torch.where(found.isnan(), getattr(self, norm), found)
        return torch.where(self.success, reach, torch.inf)

    def merged(self, other: "Outcome", rows: Tensor, better: Tensor) -> "Outcome":
        """Return this outcome merged with that of another attack on rows (m,): its images where ``better`` (m,) bool.

        Queries and seconds are added up; ``lacking`` is the smaller of the two shortfalls.
        """
        place = rows[better]
        merged_fields: dict[str, Any] = {"queries": self.queries.index_add(0, rows, other.queries)}
        merged_fields["lacking"] = self.lacking.index_copy(0, rows, torch.minimum(self.lacking[rows], other.lacking))
        merged_fields["finished"] = self.finished.index_copy(0, rows, self.finished[rows] & other.finished)
        for name in ("images", "adversarial_label", "success", *NORMS):
            merged_fields[name] = getattr(self, name).index_copy(0, place, getattr(other, name)[better])
        merged_fields["minimal"] = {
            norm: sizes.index_copy(0, place, other.minimal[norm][better]) for norm, sizes in self.minimal.items()
        }
        merged_fields["by"] = list(self.by)
        for row, winner in zip(place.tolist(), better.nonzero().squeeze(1).tolist(), strict=True):
            merged_fields["by"][row] = other.by[winner]
        return dataclasses.replace(self, seconds=self.seconds + other.seconds, **merged_fields)
