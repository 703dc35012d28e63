"""Gradients of a quantised model: those of the model that does not round, taken where the rounding model is.

Rounding has the gradient zero almost everywhere, so finite differences say nothing of an attack's use for it. The
straight-through estimator lets the gradient pass a rounding as if it were not there ("Estimating or Propagating
Gradients Through Stochastic Neurons for Conditional Computation", arXiv 1308.3432).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.errors import ArtefactError
from gauntlet.per_sample_random import KeyedRandom

Predict = Callable[[Tensor], Tensor]

PARITY = 0.05  # logits of the twin and of ONNX Runtime, relative to the range of the served ones
FAINT = 1e-4  # standard deviation of a change of the pixels that nobody sees: a fortieth of a grey level
UNSTEADY = 2.0  # times what a faint change moves the served logits: so far the twin's may be from them
FAINT_DRAWS = 2
ALONE = 1e-4  # a logit of an image alone and in a batch, relative to 1 + the largest
PROBES, FEWEST = 8, 4  # images that are tried
VALUES = 2**19  # numbers of these images, at most, unless FEWEST have more
STEP = 0.1  # Linf, of a step along the gradient and of random ones
RIVALS = 4  # random steps


class _Round(torch.autograd.Function):
    """Half to even, as ONNX rounds; the gradient passes."""

    @staticmethod
    def forward(_: Any, x: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        return rounding(x)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class StraightThrough(nn.Module):
    """A rounding operator whose gradient is one."""

    def __init__(self, rounding: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._rounding = rounding

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = _Round.apply(x, self._rounding)
        return rounded


def pass_gradients(twin: nn.Module, operators: Iterable[str]) -> None:
    """Make these children of a converted graph, which round, straight-through, in place."""
    for name in operators:
        setattr(twin, name, StraightThrough(getattr(twin, name)))


def check(twin: nn.Module, predict: Predict, shape: tuple[int, ...], device: torch.device) -> None:
    """Logits against ``predict``; and whether a step along the gradient misleads the served model more than chance.

    Both models round at the same places, but a sum that lies between two numbers may be rounded to either (ONNX Runtime
    fuses operators, and adds in another order), and each such step moves others behind it. Logits that agree within a
    few steps of the quantiser are taken for the same, and so are those that are no farther apart than the served ones
    move by themselves under a change of the pixels that nobody sees: no twin can come nearer to those. Images have this
    shape (C, H, W).

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
    if not torch.allclose(predict(x[:1]), served[:1], rtol=ALONE, atol=ALONE):
        raise ArtefactError("its answer to an image depends on the rest of the batch")
    before = _excess(served, y)
    gain = _excess(predict(_moved(x, gradient)), y) - before
    strays = [_excess(predict(_moved(x, keys.normal(1 + i, shape))), y) - before for i in range(RIVALS)]
    chance = torch.stack(strays).mean(dim=1).max()
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
    """How far the best other class is above class y, (n,)."""
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
        unsteady = _unsteady(predict, images, served, keys)
        if not gap <= UNSTEADY * unsteady:
            raise ArtefactError(
                f"its straight-through twin and ONNX Runtime disagree by {gap:.3g} in a logit, of a range of "
                f"{spread:.3g}; a change of the pixels by {FAINT:g} moves ONNX Runtime's own by {unsteady:.3g}"
            )


def _unsteady(predict: Predict, images: Tensor, served: Tensor, keys: KeyedRandom) -> float:
    """How far a faint change of the pixels moves a served logit, at most."""
    shape = tuple(images.shape[1:])
    faint = [images + FAINT * keys.normal(100 + i, shape) for i in range(FAINT_DRAWS)]
    return max(float((predict(changed.clamp(0, 1)) - served).abs().max()) for changed in faint)
