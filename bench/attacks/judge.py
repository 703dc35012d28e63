"""Success and distance of the images that an attack returned, as classified by ONNX Runtime."""

import torch
from torch import Tensor

from gauntlet.evaluation.referee import OUTWARD, ROUNDING
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import distances

NUDGE = 1.01  # an image on the torch twin's boundary may lie on the wrong side of ONNX Runtime's


def fooled(model: Classifier, y: Tensor, images: Tensor) -> Tensor:
    """(n,) bool: pixels in [0, 1], and not classified as y (n,)."""
    flat = images.flatten(1)
    inside = ((flat >= -ROUNDING) & (flat <= 1 + ROUNDING)).all(dim=1)  # false for NaN
    return inside & (model.predict(images).argmax(dim=1) != y)


def broken(model: Classifier, x: Tensor, y: Tensor, images: Tensor, eps: float) -> Tensor:
    """(n,) bool: fooled within eps in Linf."""
    return fooled(model, y, images) & (distances(x, images)["linf"] <= eps + ROUNDING)


def returned(model: Classifier, x: Tensor, y: Tensor, images: Tensor) -> Tensor:
    """L2 distance of each image as returned (n,) float64, infinite if the image is no success."""
    return torch.where(fooled(model, y, images), distances(x, images)["l2"], torch.inf)


def nudged(model: Classifier, x: Tensor, y: Tensor, images: Tensor) -> Tensor:
    """The same, but an image that fails is first moved away from x by up to NUDGE, as our referee moves ours."""
    l2 = returned(model, x, y, images)
    for scale in OUTWARD:
        rows = l2.isinf().nonzero().squeeze(1)
        if scale > NUDGE or len(rows) == 0:
            break
        further = (x[rows] + scale * (images[rows] - x[rows])).clamp(0, 1)
        l2[rows] = returned(model, x[rows], y[rows], further)
    return l2
