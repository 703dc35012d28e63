"""Empirical local slopes of a classifier: lower bounds of its L2 Lipschitz constant, from vector-Jacobian products.

A proved Lipschitz constant must not be smaller than any of them. Memory grows with the pixels of a few images, never
with classes x pixels: no Jacobian of more than MAX_JACOBIAN_CLASSES classes is computed whole.
"""

import torch
from torch import Tensor

from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import TINY, l2, per_sample, unit

NEARBY = (0.0, 0.25, 1.0)  # L2 distances from the image at which the slope is measured
MAX_JACOBIAN_CLASSES = 16  # with more classes, power iteration replaces the whole Jacobian
STEPS = 8  # of power iteration
STEP = 1e-2  # L2 length of the finite difference in power iteration
VALUES = 2**20  # limit of the values of the images processed at once, unless a single image has more


def local_slopes(model: Classifier, x: Tensor, seed: int) -> list[float]:
    """Return the largest L2 slope of the logits found at each image (B, C, H, W) and at random points near it.

    It is the spectral norm of the Jacobian: exact for up to MAX_JACOBIAN_CLASSES classes, else a lower bound from power
    iteration. Without finite gradients it is a finite difference of the logits. It is zero if the model gives no finite
    logits. Rounded to seven significant digits.
    """
    directions = unit(KeyedRandom.span(seed, 0, len(x)).normal(0, tuple(x.shape[1:])))
    count = max(1, VALUES // max(1, x[:1].numel()))
    found = [
        _steepest(model, images, direction)
        for images, direction in zip(torch.split(x, count), torch.split(directions, count), strict=True)
    ]
    return [float(f"{value:.7g}") for value in torch.cat(found).tolist()]


def _steepest(model: Classifier, x: Tensor, directions: Tensor) -> Tensor:
    """Return the largest slope found at each image: (B,) float64, finite."""
    slope = _finite_differences(model, x, directions).nan_to_num(0.0, 0.0, 0.0)
    if not model.manifest.differentiable:
        return slope
    for distance in NEARBY:
        norms = _jacobian_norms(model, (x + distance * directions).clamp(0, 1))
        slope = torch.where(norms.isfinite(), torch.maximum(slope, norms), slope)
    return slope


def _finite_differences(model: Classifier, x: Tensor, directions: Tensor) -> Tensor:
    """Return the change of the logits over the length of a random step, at each image (B, C, H, W): (B,) float64."""
    moved = (x + NEARBY[1] * directions).clamp(0, 1)
    moved_length = l2(moved.double() - x.double())
    return (model.predict(moved).double() - model.predict(x).double()).norm(dim=1) / moved_length.clamp_min(TINY)


def _jacobian_norms(model: Classifier, x: Tensor) -> Tensor:
    """Return the spectral norm of the Jacobian at each image (B, C, H, W), or a lower bound of it: (B,) float64."""
    with torch.enable_grad():
        point = x.to(model.device).requires_grad_()
        logits = model.twin(point)  # (B, K)
        if logits.shape[1] <= MAX_JACOBIAN_CLASSES:
            return _exact_norms(point, logits).cpu()
        return _power_iteration(model, point, logits).cpu()


def _products(point: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Return vector-Jacobian products: the gradient of the weighted sum of the logits (B, K), weights (B, K)."""
    (gradient,) = torch.autograd.grad(logits, point, weights, retain_graph=True)
    return gradient


def _exact_norms(point: Tensor, logits: Tensor) -> Tensor:
    axes = torch.eye(logits.shape[1], device=logits.device)
    rows = [_products(point, logits, axis.expand_as(logits)).flatten(1).double() for axis in axes]
    jacobians = torch.stack(rows, dim=1)  # (B, K, C * H * W)
    finite = jacobians.flatten(1).isfinite().all(dim=1)
    norms = torch.linalg.matrix_norm(jacobians.nan_to_num(0.0, 0.0, 0.0), ord=2)
    return torch.where(finite, norms, torch.nan)


def _power_iteration(model: Classifier, point: Tensor, logits: Tensor) -> Tensor:
    """Power iteration on J J^T: J v is a finite difference, but the returned length of J^T u, |u| = 1, is exact."""
    weights = unit(KeyedRandom.span(0, 0, len(point), model.device).normal(1, (logits.shape[1],)))
    best = torch.zeros(len(point), dtype=torch.float64, device=point.device)
    for _ in range(STEPS):
        back = _products(point, logits, weights)
        size = l2(back.double())
        best = torch.where(size.isfinite(), torch.maximum(best, size), best)
        with torch.no_grad():
            moved = model.twin(point + STEP * unit(back.nan_to_num(0.0, 0.0, 0.0)))
            forward = (moved - logits).nan_to_num(0.0, 0.0, 0.0)
        unmoved = l2(forward) == 0
        weights = torch.where(per_sample(unmoved, weights), weights, unit(forward))
    return best
