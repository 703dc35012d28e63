"""How steep a classifier is around single images, from below, by a few vector-Jacobian products.

No L2 Lipschitz constant that is proved can be smaller. Memory grows with the pixels of a few images, never with classes
x pixels: no Jacobian of more than FEW classes is ever held.
"""

import torch
from torch import Tensor

from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import TINY, l2, per_sample, unit

NEARBY = (0.0, 0.25, 1.0)  # L2 distances from the image at which the slope is measured
FEW = 16  # classes whose Jacobian is computed whole, row by row
STEPS = 8  # of power iteration, for more classes
STEP = 1e-2  # in L2, of the finite difference between two of them
VALUES = 2**20  # numbers of the images whose gradients are held at once, at most, unless a single image has more


def local_slopes(model: Classifier, x: Tensor, seed: int) -> list[float]:
    """The largest slope of the logits, in L2, found at and at random points near each image (B, C, H, W).

    It is the spectral norm of the Jacobian: exact for up to FEW classes, else what power iteration reaches. Where there
    are no gradients, or they are not finite: how far the logits move for a small step. Zero where the model gives no
    finite answer. Seven significant digits.
    """
    ways = unit(KeyedRandom.span(seed, 0, len(x)).normal(0, tuple(x.shape[1:])))
    count = max(1, VALUES // max(1, x[:1].numel()))
    found = [
        _steepest(model, images, way)
        for images, way in zip(torch.split(x, count), torch.split(ways, count), strict=True)
    ]
    return [float(f"{value:.7g}") for value in torch.cat(found).tolist()]


def _steepest(model: Classifier, x: Tensor, ways: Tensor) -> Tensor:
    """(B,) float64, finite."""
    slope = _rises(model, x, ways).nan_to_num(0.0, 0.0, 0.0)
    if not model.manifest.differentiable:
        return slope
    for distance in NEARBY:
        norms = _jacobian_norms(model, (x + distance * ways).clamp(0, 1))
        slope = torch.where(norms.isfinite(), torch.maximum(slope, norms), slope)
    return slope


def _rises(model: Classifier, x: Tensor, ways: Tensor) -> Tensor:
    """Change of the logits over the way gone, at each image (B, C, H, W): (B,) float64."""
    moved = (x + NEARBY[1] * ways).clamp(0, 1)
    gone = l2(moved.double() - x.double())
    return (model.predict(moved).double() - model.predict(x).double()).norm(dim=1) / gone.clamp_min(TINY)


def _jacobian_norms(model: Classifier, x: Tensor) -> Tensor:
    """Spectral norm of the logits' Jacobian at each image (B, C, H, W): (B,) float64, or a lower bound of it."""
    with torch.enable_grad():
        point = x.to(model.device).requires_grad_()
        logits = model.twin(point)  # (B, K)
        if logits.shape[1] <= FEW:
            return _exactly(point, logits).cpu()
        return _iterated(model, point, logits).cpu()


def _products(point: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Vector-Jacobian products: the gradient of the logits (B, K) times weights (B, K), at each image."""
    (gradient,) = torch.autograd.grad(logits, point, weights, retain_graph=True)
    return gradient


def _exactly(point: Tensor, logits: Tensor) -> Tensor:
    axes = torch.eye(logits.shape[1], device=logits.device)
    rows = [_products(point, logits, axis.expand_as(logits)).flatten(1).double() for axis in axes]
    jacobians = torch.stack(rows, dim=1)  # (B, K, C * H * W)
    finite = jacobians.flatten(1).isfinite().all(dim=1)
    norms = torch.linalg.matrix_norm(jacobians.nan_to_num(0.0, 0.0, 0.0), ord=2)
    return torch.where(finite, norms, torch.nan)


def _iterated(model: Classifier, point: Tensor, logits: Tensor) -> Tensor:
    """Power iteration on J J^T; J times a vector is a finite difference, so each length found is a lower bound."""
    weights = unit(KeyedRandom.span(0, 0, len(point), model.device).normal(1, (logits.shape[1],)))
    best = torch.zeros(len(point), dtype=torch.float64, device=point.device)
    for _ in range(STEPS):
        back = _products(point, logits, weights)
        size = l2(back.double())
        best = torch.where(size.isfinite(), torch.maximum(best, size), best)
        with torch.no_grad():
            moved = model.twin(point + STEP * unit(back.nan_to_num(0.0, 0.0, 0.0)))
            forward = (moved - logits).nan_to_num(0.0, 0.0, 0.0)
        still = l2(forward) == 0
        weights = torch.where(per_sample(still, weights), weights, unit(forward))
    return best
