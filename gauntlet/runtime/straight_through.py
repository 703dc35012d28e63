"""Straight-through gradients of a quantised model, and the check that they are useful to an attack.

The gradient of rounding is zero almost everywhere, so finite differences cannot show whether a gradient is useful. The
straight-through estimator rounds in the forward pass and passes the gradient through the rounding unchanged
("Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation", arXiv 1308.3432).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.errors import ArtefactError
from gauntlet.per_sample_random import KeyedRandom

Predict = Callable[[Tensor], Tensor]

PARITY = 0.05  # tolerance of logits, twin against ONNX Runtime, relative to the range of the served logits
INVISIBLE = 1e-4  # standard deviation of pixel noise that nobody sees: a fortieth of a grey level
INVISIBLE_DRAWS = 2
SENSITIVITY_FACTOR = 2.0  # the twin's logits may be off by this times the change of the served ones under such noise
BATCH_TOLERANCE = 1e-4  # of a logit of an image alone and in a batch, relative to 1 + the logit
PROBES, FEWEST = 8, 4  # largest and smallest number of probe images
VALUES = 2**19  # limit of the number of values in all probe images, unless FEWEST images have more
STEP = 0.1  # Linf length of a step along the gradient, and of random steps
RANDOM_STEPS = 4


class _Round(torch.autograd.Function):
    """Applies a rounding function in the forward pass, and passes the gradient unchanged in the backward pass."""

    @staticmethod
    def forward(_: Any, x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(x)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class StraightThrough(nn.Module):
    """A module that applies a rounding operator whose gradient is taken to be one."""

    def __init__(self, rounding: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._rounding = rounding

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = _Round.apply(x, self._rounding)
        return rounded


def pass_gradients(twin: nn.Module, operators: Iterable[str]) -> None:
    """Replace, in place, these rounding operators of a converted graph by straight-through ones."""
    for name in operators:
        setattr(twin, name, StraightThrough(getattr(twin, name)))


def check(twin: nn.Module, predict: Predict, shape: tuple[int, ...], device: torch.device) -> None:
    """Compare logits with ``predict``, and check that a gradient step misleads the served model more than a random one.

    Both models round at the same places, but a sum close to the middle of two quantisation levels may be rounded to
    either (ONNX Runtime fuses operators, and adds in another order), and each such difference causes others in later
    layers. Logits that agree within a few quantisation levels are accepted. So are logits that differ by no more than
    the served logits change under invisible pixel noise: no twin can be closer to those. ``shape`` is that of an image,
    (C, H, W).

    Raises:
        ArtefactError: the reason why attacks could not use these gradients.
    """
    probes = min(PROBES, max(FEWEST, VALUES // torch.Size(shape).numel()))
    keys = KeyedRandom.span(0, 0, probes, device)
    x = keys.uniform(0, shape)
    served = predict(x)
    y = served.argmax(dim=1)
    gradient = _ascent(twin, x, y.to(device))
    _check_logits(twin, predict, (x, _moved(x, gradient)), keys)
    if not torch.allclose(predict(x[:1]), served[:1], rtol=BATCH_TOLERANCE, atol=BATCH_TOLERANCE):
        raise ArtefactError("its answer to an image depends on the rest of the batch")
    before = _excess(served, y)
    gain = _excess(predict(_moved(x, gradient)), y) - before
    random_gains = [_excess(predict(_moved(x, keys.normal(1 + i, shape))), y) - before for i in range(RANDOM_STEPS)]
    chance = torch.stack(random_gains).mean(dim=1).max()
    if not gain.mean() > max(float(chance), 0.0):
        raise ArtefactError(
            f"a step along its straight-through gradients raises the served margin by {float(gain.mean()):.3g}, "
            f"a random one by {float(chance):.3g}"
        )


def _ascent(twin: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    probe = x.clone().requires_grad_()
    excess = _excess(twin(probe), y).sum()
    if not excess.requires_grad:
        raise ArtefactError("no gradient reaches the image")
    (gradient,) = torch.autograd.grad(excess, probe)
    if not bool(gradient.isfinite().all()):
        raise ArtefactError("its straight-through gradients are not finite")
    return gradient


def _excess(logits: Tensor, y: Tensor) -> Tensor:
    """Return by how much the largest logit of another class exceeds that of class y, (n,)."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(dim=1) - own


def _moved(x: Tensor, direction: Tensor) -> Tensor:
    return (x + STEP * direction.sign()).clamp(0, 1)


def _check_logits(twin: nn.Module, predict: Predict, batches: Iterable[Tensor], keys: KeyedRandom) -> None:
    for images in batches:
        served = predict(images)
        gap = float((twin(images).detach().cpu() - served).abs().max())
        spread = float(served.max() - served.min())
        if gap <= PARITY * spread:
            continue
        sensitivity = _sensitivity(predict, images, served, keys)
        if not gap <= SENSITIVITY_FACTOR * sensitivity:
            raise ArtefactError(
                f"its straight-through twin and ONNX Runtime disagree by {gap:.3g} in a logit, of a range of "
                f"{spread:.3g}; a change of the pixels by {INVISIBLE:g} moves ONNX Runtime's own by {sensitivity:.3g}"
            )


def _sensitivity(predict: Predict, images: Tensor, served: Tensor, keys: KeyedRandom) -> float:
    """Return the largest change of a served logit under invisible pixel noise."""
    shape = tuple(images.shape[1:])
    noisy = [images + INVISIBLE * keys.normal(100 + i, shape) for i in range(INVISIBLE_DRAWS)]
    return max(float((predict(changed.clamp(0, 1)) - served).abs().max()) for changed in noisy)
