"""Shared parts of the attacks: the model interface, margins and losses, gradients, and the loop over target classes."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from gauntlet.norms import Norm
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, per_sample, reach, unblocked

Run = TypeVar("Run", bound=Callable[..., Tensor])


def costs(passes: Callable[[Any], int]) -> Callable[[Run], Run]:
    """Declare the cost of an attack: evaluations of the model per image, as a function of the attack's parameters.

    It is the cost of an image that is not broken before the last step. Not counted: a few evaluations that test the
    last iterate of a gradient attack, and the some hundreds of the second search of an image whose gradient is zero
    (``dead_gradient_search``).
    """

    def declared(run: Run) -> Run:
        run.passes = passes  # type: ignore[attr-defined]
        return run

    return declared


class Model(Protocol):
    """A differentiable function from images (B, C, H, W) to logits (B, K), for the samples of one batch."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def at(self, rows: Tensor, /) -> "Model":
        """Return the model for some rows of the batch only, so that queries are counted for the right samples."""
        ...


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the logit of class y minus the largest other: (B, K), (B,) -> (B,). Negative: not classified as y."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return own - others.amax(dim=1)


def shortfall(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Return by how much, in logits, the attack misses its goal: (B,). Negative: it has succeeded by that much."""
    return -margin(logits, y) if targeted else margin(logits, y)


def lead(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Return the logit of class ``rival`` (B,) minus that of class y: (B,)."""
    return (logits.gather(1, rival[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


RANGE = 40.0  # largest minus smallest logit, after scaling, in the cross-entropy


def span(logits: Tensor) -> Tensor:
    """Return the largest minus the smallest of the logits (B, K): (B,), detached."""
    return (logits.amax(dim=1) - logits.amin(dim=1)).detach()


def loss(logits: Tensor, y: Tensor, targeted: bool, reach: Tensor | None = None) -> Tensor:
    """Return the cross-entropy, signed so that the attacker maximises it: (B,).

    The logits are scaled, sample by sample, so that ``reach`` (B,), by default their span, becomes RANGE. Large logits
    would make the gradient vanish (the masking for which Croce and Hein, arXiv 2003.01690, made their DLR loss); small
    ones would make it lead away from y towards all other classes at once instead of the nearest. The formula keeps the
    gradient of a confident prediction nonzero in float32.
    """
    reach = span(logits) if reach is None else reach
    logits = logits * (RANGE / reach.clamp_min(TINY))[:, None]
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf).logsumexp(dim=1)
    entropy = torch.nn.functional.softplus(others - own)
    return -entropy if targeted else entropy


def escape(gradient: Tensor, generator: KeyedRandom, draw: int, course: Tensor | None = None) -> Tensor:
    """Replace each zero gradient (B, C, H, W) by the sample's ``course`` (the average so far), else by a random one."""
    vanished = gradient.flatten(1).abs().amax(dim=1) == 0
    if not bool(vanished.any()):
        return gradient
    replacement = generator.normal(draw, tuple(gradient.shape[1:]))
    if course is not None:
        replacement = torch.where(per_sample(course.flatten(1).any(dim=1), course), course, replacement)
    return torch.where(per_sample(vanished, gradient), replacement, gradient)


LARGEST = 1e15  # limit of a gradient's entries: with squares beyond float32 the gradient's length would be infinite


def usable(gradient: Tensor) -> Tensor:
    """Return the gradient (B, ...) with finite entries, of magnitude at most LARGEST.

    NaN becomes zero, an infinite entry the sample's largest finite one (1 if all its finite entries are zero),
    and a sample with entries above LARGEST is scaled down to it. One infinite entry would otherwise make
    the length infinite, and division by an infinite length makes the direction zero.
    """
    if bool((gradient.abs() <= LARGEST).all()):
        return gradient
    finite = torch.where(gradient.isfinite(), gradient, 0.0)
    top = finite.flatten(1).abs().amax(dim=1)
    top = torch.where(top > 0, top, 1.0)
    filled = torch.where(gradient.isinf(), gradient.sign() * per_sample(top, gradient), finite)
    return filled * per_sample((LARGEST / top).clamp_max(1.0), gradient)


def value_and_gradient(model: Model, x: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the logits (B, K) at x, and the gradient (B, C, H, W) of ``objective(logits).sum()`` with respect to x."""
    x = x.detach().requires_grad_()
    logits = model(x)
    (gradient,) = torch.autograd.grad(objective(logits).sum(), x)
    return logits.detach(), gradient


CANDIDATES = 9  # likeliest other classes whose distance is estimated: all of them, if the model has ten classes


def nearest_classes(model: Model, x: Tensor, y: Tensor, norm: Norm, count: int) -> Tensor:
    """Return the other classes (B, count or fewer) with the nearest decision boundaries, to first order, nearest first.

    An untargeted attack succeeds in any other class, and the nearest one is often not the likeliest. Each of the
    CANDIDATES costs one forward and backward pass (MALT: Melamed, Yehudai and Vardi, arXiv 2407.02240).
    """
    with torch.no_grad():
        likeliest = model(x).scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    rivals = likeliest[:, : min(CANDIDATES, likeliest.shape[1] - 1)]
    distances = []
    for rival in rivals.unbind(1):
        logits, gradient = value_and_gradient(model, x, partial(lead, y=y, rival=rival))
        distances.append(reach(-lead(logits, y, rival), unblocked(gradient, x), x, norm))
    return rivals.gather(1, torch.stack(distances, dim=1).argsort(dim=1)[:, :count])


def decayed(elapsed: float, last: float, first: float) -> float:
    """Return the value of a half-cosine decay from ``first`` to ``last``, as ``elapsed`` goes from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * elapsed)) / 2


@dataclass(frozen=True)
class Aim:
    """The decision boundary that a minimum-norm attack aims at, one row per sample."""

    y: Tensor  # (B,) the label to leave or, targeted, the class to reach
    rival: Tensor  # (B,) the class to reach; targeted: y
    targeted: bool
    number: int  # index of the aim, from 0: part of the key of random draws

    def gain(self, logits: Tensor) -> Tensor:
        """Return how far the logits (B, K) are beyond the boundary, in logits: (B,). Negative: not there yet."""
        return margin(logits, self.y) if self.targeted else lead(logits, self.y, self.rival)

    def won(self, logits: Tensor) -> Tensor:
        """Return which samples are successes: (B,) bool. Untargeted, any class but y counts, not only the rival."""
        return shortfall(logits, self.y, self.targeted) < 0

    def at(self, rows: Tensor) -> "Aim":
        return Aim(self.y[rows], self.rival[rows], self.targeted, self.number)


def class_by_class(
    model: Model,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    targets: int,
    targeted: bool,
    approach: Callable[[Model, Tensor, Aim, Tensor], tuple[Tensor, Tensor]],
    again: int = 0,
) -> Tensor:
    """Run a minimum-norm attack towards each of the ``targets`` nearest classes (to first order) and keep the best.

    ``approach`` gets model, x, an aim and the lengths (B,) of the smallest successes so far, and returns its successes
    and their lengths. Afterwards it runs ``again`` times more towards the class with the smallest success.
    Returns each sample's smallest success (B, C, H, W), x itself where there was none.
    """
    best, smallest = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    rivals = y[:, None] if targeted else nearest_classes(model, x, y, norm, targets)
    classes = rivals.unbind(1)
    nearest = classes[0]
    for number in range(len(classes) + again):
        rival = classes[number] if number < len(classes) else nearest
        point, size = approach(model, x, Aim(y, rival, targeted, number), smallest)
        shorter = size < smallest
        best = torch.where(per_sample(shorter, x), point, best)
        smallest = torch.where(shorter, size, smallest)
        nearest = torch.where(shorter, rival, nearest)
    return best


def best_of(model: Model, x: Tensor, y: Tensor, points: Iterable[Tensor], targeted: bool) -> Tensor:
    """Return, per sample, the candidate of ``points`` (each (B, C, H, W)) nearest to success. Uses no gradient."""
    best, lacking = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    for point in points:
        with torch.no_grad():
            short = shortfall(model(point), y, targeted)
        better = short < lacking
        best = torch.where(per_sample(better, x), point, best)
        lacking = torch.where(better, short, lacking)
    return best
