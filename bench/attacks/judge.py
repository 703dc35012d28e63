"""Success and distance, from the images that an attack returned and ONNX Runtime's word on them."""

import torch
from torch import Tensor

from gauntlet.evaluation.referee import OUTWARD, ROUNDING
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import distances

NUDGE = 1.01  # an image on the torch twin's boundary may lie on the wrong side of ONNX Runtime's


def fooled(model: Classifier, y: Tensor, images: Tensor) -> Tensor:
    """(n,) bool: inside the box, and not classified as y (n,)."""
    flat = images.flatten(1)
    inside = ((flat >= -ROUNDING) & (flat <= 1 + ROUNDING)).all(dim=1)  # false for NaN
    return inside & (model.predict(images).argmax(dim=1) != y)


def broken(model: Classifier, x: Tensor, y: Tensor, images: Tensor, eps: float) -> Tensor:
    """(n,) bool: fooled within eps in Linf."""
    return fooled(model, y, images) & (distances(x, images)["linf"] <= eps + ROUNDING)


def returned(model: Classifier, x: Tensor, y: Tensor, images: Tensor) -> Tensor:
    """L2 of each image as it was returned (n,) float64, infinite where it does not fool."""
    return torch.where(fooled(model, y, images), distances(x, images)["l2"], torch.inf)


def nudged(model: Classifier, x: Tensor, y: Tensor, images: Tensor) -> Tensor:
    """The same, but an image that fails is first moved away from x by up to NUDGE, as our referee moves ours."""
    found = returned(model, x, y, images)
    for scale in OUTWARD:
        rows = found.isinf().nonzero().squeeze(1)
        if scale > NUDGE or len(rows) == 0:
            break
        further = (x[rows] + scale * (images[rows] - x[rows])).clamp(0, 1)
        found[rows] = returned(model, x[rows], y[rows], further)
    return found
