"""What a classifier's logits say: a class, or nothing where they are not numbers."""

import torch
from torch import Tensor

from gauntlet.unanswered_label import UNANSWERED


def answered(logits: Tensor) -> Tensor:
    """Which of the logits (B, K) are all finite: (B,) bool."""
    finite: Tensor = logits.isfinite().all(dim=1)
    return finite


def labels(logits: Tensor) -> Tensor:
    """Logits (B, K) to the class of the largest, or UNANSWERED: (B,) int64."""
    return torch.where(answered(logits), logits.argmax(dim=1), UNANSWERED)


def among_likeliest(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """Whether class y (B,) is among the ``count`` largest of the logits (B, K), all of them finite: (B,) bool."""
    hits: Tensor = (logits.topk(count, dim=1).indices == y[:, None]).any(dim=1)
    return hits & answered(logits)
