"""Check that a torch twin computes the served function, and that its gradients are those of this function.

An attack on another function would measure nothing. So a twin is refused if its logits disagree with ONNX Runtime, or
its gradients with finite differences.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gauntlet.errors import ArtefactError
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime.twin import doubled
from gauntlet.threat import l2, unit

Predict = Callable[[Tensor], Tensor]

PARITY = 1e-4  # tolerance of logits, twin against ONNX Runtime, relative to 1 + the largest logit
GRADIENT = 1e-2  # tolerance of directional derivatives, relative to the gradient's length
STEP = 1e-6  # L2 length of the finite differences' steps
FEWEST, PROBES = 2, 8  # smallest and largest number of probe images
VALUES = 2**18  # limit of the number of values in all probe images, unless FEWEST images have more


def check(twin: nn.Module, predict: Predict, shape: tuple[int, ...], classes: int, device: torch.device) -> None:
    """Compare the twin's logits with those of ``predict``, and its gradients with finite differences.

    The logits are compared on noise, and on the same images after a gradient step. ``shape`` is that of an image,
    (C, H, W); logits are (B, classes). Raises ArtefactError with the reason, or any exception that the twin raises.
    """
    keys = _probes(shape, device)
    x = keys.uniform(0, shape).requires_grad_()
    weights = keys.normal(1, (classes,))  # a random direction in logit space
    logits = twin(x)
    if not logits.requires_grad:
        raise ArtefactError("no gradient reaches the image")
    (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    x = x.detach()
    _check_logits(twin, predict, x, gradient)
    double = doubled(twin)
    for direction in (unit(gradient), unit(keys.normal(2, shape))):
        step = STEP * direction.double()
        ahead, behind = ((double(x.double() + s) * weights).flatten(1).sum(1) for s in (step, -step))
        expected = (gradient * direction).flatten(1).sum(1)
        if not bool((((ahead - behind) / (2 * STEP) - expected).abs() <= GRADIENT * l2(gradient) + 1e-6).all()):
            raise ArtefactError("the gradients of its torch twin disagree with finite differences")


def _probes(shape: tuple[int, ...], device: torch.device) -> KeyedRandom:
    return KeyedRandom.span(0, 0, min(PROBES, max(FEWEST, VALUES // torch.Size(shape).numel())), device)


def _check_logits(twin: nn.Module, predict: Predict, x: Tensor, gradient: Tensor) -> None:
    for images in (x, (x + 0.1 * gradient.sign()).clamp(0, 1)):
        served = predict(images)
        gap = float((twin(images).cpu() - served).abs().max())
        if not gap <= PARITY * (1 + float(served.abs().max())):
            raise ArtefactError(f"torch twin and ONNX Runtime disagree by {gap:.3g} in a logit")
    alone = predict(x[:1])
    if not torch.allclose(alone, predict(x)[:1], rtol=PARITY, atol=PARITY):
        raise ArtefactError("its answer to an image depends on the rest of the batch")


def rounding(twin: nn.Module, predict: Predict, shape: tuple[int, ...], device: torch.device) -> float:
    """Return the largest error of a served logit, compared with the twin in float64, on noise and images of one shade.

    Certificates allow for this error.
    """
    x, double = _probes(shape, device).uniform(0, shape), doubled(twin)
    shades = torch.linspace(0, 1, len(x), device=x.device).view(-1, 1, 1, 1)
    worst = 0.0
    for images in (x, shades.expand_as(x), shades * x, x.round()):
        exact = double(images.double()).cpu()
        worst = max(worst, float((predict(images).double() - exact).abs().max()))
    return worst
