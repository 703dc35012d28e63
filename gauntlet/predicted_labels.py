"""Labels from logits: the predicted class, or UNANSWERED if the logits are not all finite."""

import torch
from torch import Tensor

from gauntlet.unanswered_label import UNANSWERED


def answered(logits: Tensor) -> Tensor:
    """Return which rows of the logits (B, K) are all finite: (B,) bool."""
    finite: Tensor = logits.isfinite().all(dim=1)
    return finite


def labels(logits: Tensor) -> Tensor:
    """Return the class of the largest logit of (B, K), or UNANSWERED: (B,) int64."""
    return torch.where(answered(logits), logits.argmax(dim=1), UNANSWERED)


def among_likeliest(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """Return whether class y (B,) has one of the ``count`` largest logits (B, K), all of them finite: (B,) bool."""
    hits: Tensor = (logits.topk(count, dim=1).indices == y[:, None]).any(dim=1)
    return hits & answered(logits)
