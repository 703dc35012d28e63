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
