"""What the attacks share: the model they see, the margin they fight, and the gradient that leads them."""

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
    """Declare what an attack costs: evaluations of the model per image, as a function of the attack's parameters.

    Of an image that stands to the end. Where each step takes a gradient, a few more that test the ends are not counted,
    nor are those of the second search (``elsewhere``) of an image whose gradient is dead: some hundreds.
    """

    def declared(run: Run) -> Run:
        run.passes = passes  # type: ignore[attr-defined]
        return run

    return declared


class Model(Protocol):
    """Images (B, C, H, W) to logits (B, K), differentiable, for the samples of one batch."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def at(self, rows: Tensor, /) -> "Model":
        """The model for some rows of the batch only, so that queries are counted for the right samples."""
        ...


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Logit of class y less the largest other: (B, K), (B,) -> (B,). Negative: not classified as y."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return own - others.amax(dim=1)


def shortfall(logits: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """How many logits the attack still lacks: (B,). Negative: it has succeeded by that much."""
    return -margin(logits, y) if targeted else margin(logits, y)


def lead(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Logit of class ``rival`` (B,) less that of class y: (B,)."""
    return (logits.gather(1, rival[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


RANGE = 40.0  # of the logits in the cross-entropy


def span(logits: Tensor) -> Tensor:
    """From the smallest to the largest logit (B, K): (B,)."""
    return (logits.amax(dim=1) - logits.amin(dim=1)).detach()


def loss(logits: Tensor, y: Tensor, targeted: bool, reach: Tensor | None = None) -> Tensor:
    """Cross-entropy, signed so that the attacker climbs: (B,).

    The logits are scaled, sample by sample, so that ``reach`` (B,), by default what they span, becomes RANGE: large
    ones would make the gradient vanish (the masking for which Croce and Hein, arXiv 2003.01690, made their DLR loss),
    small ones would make it lead away from y towards all other classes at once instead of the nearest. Written so that
    a confident answer's gradient survives float32.
    """
    reach = span(logits) if reach is None else reach
    logits = logits * (RANGE / reach.clamp_min(TINY))[:, None]
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf).logsumexp(dim=1)
    entropy = torch.nn.functional.softplus(others - own)
    return -entropy if targeted else entropy


def escape(gradient: Tensor, generator: KeyedRandom, draw: int, course: Tensor | None = None) -> Tensor:
    """Where the gradient (B, C, H, W) has vanished there is no way up: the course so far instead, else a random one."""
    lost = gradient.flatten(1).abs().amax(dim=1) == 0
    if not bool(lost.any()):
        return gradient
    instead = generator.normal(draw, tuple(gradient.shape[1:]))
    if course is not None:
        instead = torch.where(per_sample(course.flatten(1).any(dim=1), course), course, instead)
    return torch.where(per_sample(lost, gradient), instead, gradient)


LARGEST = 1e15  # of a gradient's entries: the square of a larger one is beyond float32, and a length infinite


def usable(gradient: Tensor) -> Tensor:
    """A gradient (B, ...) that leads somewhere.

    NaN counts as zero, an infinite entry as the sample's largest finite one (one, where there is none), and a sample
    with entries above LARGEST is scaled down to it.
    An infinite entry would hide all others in a length, and a length that is infinite makes the direction zero.
    """
    if bool((gradient.abs() <= LARGEST).all()):
        return gradient
    finite = torch.where(gradient.isfinite(), gradient, 0.0)
    top = finite.flatten(1).abs().amax(dim=1)
    top = torch.where(top > 0, top, 1.0)
    filled = torch.where(gradient.isinf(), gradient.sign() * per_sample(top, gradient), finite)
    return filled * per_sample((LARGEST / top).clamp_max(1.0), gradient)


def value_and_gradient(model: Model, x: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (B, K) at x and the gradient (B, C, H, W) of the summed objective of them."""
    x = x.detach().requires_grad_()
    logits = model(x)
    (gradient,) = torch.autograd.grad(objective(logits).sum(), x)
    return logits.detach(), gradient


CANDIDATES = 9  # of the likeliest other classes are measured: all of them, where there are ten


def nearest_classes(model: Model, x: Tensor, y: Tensor, norm: Norm, count: int) -> Tensor:
    """The other classes (B, count or fewer) whose boundaries are nearest, to first order, nearest first.

    To leave class y is to reach any one of the others, and the nearest is often not the likeliest. A pass is spent on
    each of the CANDIDATES (MALT: Melamed, Yehudai and Vardi, arXiv 2407.02240).
    """
    with torch.no_grad():
        likeliest = model(x).scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
    rivals = likeliest[:, : min(CANDIDATES, likeliest.shape[1] - 1)]
    away = []
    for rival in rivals.unbind(1):
        logits, gradient = value_and_gradient(model, x, partial(lead, y=y, rival=rival))
        away.append(reach(-lead(logits, y, rival), unblocked(gradient, x), x, norm))
    return rivals.gather(1, torch.stack(away, dim=1).argsort(dim=1)[:, :count])


def decayed(elapsed: float, last: float, first: float) -> float:
    """From first to last along a half cosine, as ``elapsed`` goes from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * elapsed)) / 2


@dataclass(frozen=True)
class Aim:
    """Which boundary a minimum-norm attack makes for, one row per sample."""

    y: Tensor  # (B,) the label to leave or, targeted, the class to reach
    rival: Tensor  # (B,) the class to reach; targeted: y
    targeted: bool
    number: int  # of the aim, from 0: it keys random draws

    def gain(self, logits: Tensor) -> Tensor:
        """How far beyond the boundary the logits (B, K) are, in logits: (B,)."""
        return margin(logits, self.y) if self.targeted else lead(logits, self.y, self.rival)

    def won(self, logits: Tensor) -> Tensor:
        """(B,) bool. In any class but y, unless targeted."""
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
    """Each sample's smallest success (B, C, H, W) over the classes nearest to first order; x itself where none.

    ``approach`` gets model, x, an aim and the smallest lengths (B,) known, and returns its successes and their lengths.
    After the classes it goes ``again`` to the one that led to the smallest.
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
    """Of the points (B, C, H, W) tried in the place of x, each sample's nearest to success; without a gradient."""
    best, lacking = x, torch.full_like(y, torch.inf, dtype=x.dtype)
    for point in points:
        with torch.no_grad():
            short = shortfall(model(point), y, targeted)
        better = short < lacking
        best = torch.where(per_sample(better, x), point, best)
        lacking = torch.where(better, short, lacking)
    return best
