"""The threat model: a norm ball around the image, inside the unit box; lengths, projections and steps in each norm."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.errors import InvalidInput
from gauntlet.float32 import MAX_EPS
from gauntlet.norms import NORMS, Norm

TINY = 1e-12  # keeps zero out of denominators
NEWTON = 4  # steps of Newton's method to the root of a piecewise linear function
DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The dual norm: a step of size one gains at most the gradient's length in the dual norm. L0 has none."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, 1, ...), to scale each sample of ``like``."""
    return values.view(-1, *([1] * (like.dim() - 1)))


def l2(delta: Tensor) -> Tensor:
    """Return the Euclidean length of each sample: (B, ...) -> (B,)."""
    return delta.flatten(1).norm(dim=1)


def unit(direction: Tensor) -> Tensor:
    """Scale each sample to L2 length one; a zero stays zero."""
    largest = direction.flatten(1).abs().amax(dim=1)  # scaled first, because squares of tiny numbers underflow
    scaled = direction / per_sample(largest.clamp_min(torch.finfo(direction.dtype).tiny), direction)
    return scaled / per_sample(l2(scaled).clamp_min(TINY), direction)


def shrink(delta: Tensor, eps: float | Tensor) -> Tensor:
    """Project each sample (B, ...) onto the L1 ball of radius ``eps`` (one for all, or (B,)).

    Duchi et al., "Efficient Projections onto the l1-Ball for Learning in High Dimensions", ICML 2008: all entries move
    towards zero by the same amount.
    """
    flat = delta.flatten(1)
    radius = torch.as_tensor(eps, dtype=flat.dtype, device=flat.device).expand(len(flat))[:, None]
    falling = flat.abs().sort(dim=1, descending=True).values
    excess = (falling.cumsum(1) - radius) / torch.arange(1, flat.shape[1] + 1, device=flat.device)
    last = ((falling > excess).sum(dim=1, keepdim=True) - 1).clamp_min(0)
    amount = excess.gather(1, last).clamp_min(0)
    shrunk = flat.sign() * (flat.abs() - amount).clamp_min(0)
    return torch.where(flat.abs().sum(1, keepdim=True) > radius, shrunk, flat).view_as(delta)


def keep(delta: Tensor, worth: Tensor, pixels: int | Tensor) -> Tensor:
    """Set all but the ``pixels`` (one number, or (B,)) pixels of largest ``worth`` (B, H, W) to zero: (B, C, H, W)."""
    place = worth.flatten(1).argsort(dim=1, descending=True).argsort(dim=1)
    count = torch.as_tensor(pixels, device=delta.device).expand(len(delta))[:, None]
    return delta * (place < count).view(len(delta), 1, *delta.shape[2:])


def keep_largest(delta: Tensor, pixels: int | Tensor) -> Tensor:
    """Set all but the ``pixels`` (one number, or (B,)) pixels of largest L2 change to zero: (B, C, H, W)."""
    return keep(delta, delta.norm(dim=1), pixels)


def length(delta: Tensor, norm: Norm) -> Tensor:
    """Return the length of each sample (B, C, H, W) in the norm: (B,). L0 counts pixels, a colour pixel once."""
    match norm:
        case "linf":
            return delta.flatten(1).abs().amax(dim=1)
        case "l2":
            return l2(delta)
        case "l1":
            return delta.flatten(1).abs().sum(dim=1)
        case "l0":
            return (delta != 0).any(dim=1).flatten(1).sum(dim=1).to(delta.dtype)


def shorten(delta: Tensor, norm: Norm, eps: float | Tensor) -> Tensor:
    """Project each sample (B, C, H, W) onto the ball of radius ``eps`` (one for all, or (B,)) in the norm."""
    radius = eps if isinstance(eps, Tensor) else delta.new_full((len(delta),), eps)
    match norm:
        case "linf":
            return delta.clamp(-per_sample(radius, delta), per_sample(radius, delta))
        case "l2":
            return delta * per_sample((radius / l2(delta).clamp_min(TINY)).clamp_max(1), delta)
        case "l1":
            return shrink(delta, radius)
        case "l0":
            return keep_largest(delta, radius.clamp_max(delta[0, 0].numel()).long())


def reach(gain: Tensor, gradient: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Return how far x (B, C, H, W) must move, to first order, for a function with this gradient to rise by ``gain``.

    ``gain`` and the result are (B,). In L0 the result is a number of pixels.
    """
    if norm == "l0":
        room = torch.where(gradient > 0, 1 - x, x)
        most = (gradient.abs() * room).sum(dim=1).flatten(1).sort(dim=1, descending=True).values
        return ((most.cumsum(1) < gain[:, None]).sum(dim=1) + 1).to(x.dtype)
    return gain / length(gradient, DUAL[norm]).clamp_min(TINY)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of steepest ascent, of size one in Linf or L2; in L1 scaled to a largest entry of one.

    In L1 the steepest step changes a single entry. Here all entries keep their share; ``shorten`` selects from them.
    """
    match norm:
        case "linf":
            return gradient.sign()
        case "l2":
            return unit(gradient)
        case _:
            return gradient / per_sample(gradient.flatten(1).abs().amax(dim=1).clamp_min(TINY), gradient)


def unblocked(gradient: Tensor, x: Tensor) -> Tensor:
    """Set the gradient (B, C, H, W) to zero where it would push a pixel out of the box: clipping undoes that step."""
    return gradient.masked_fill(((x <= 0) & (gradient < 0)) | ((x >= 1) & (gradient > 0)), 0.0)


def onto_plane(delta: Tensor, normal: Tensor, level: Tensor, x: Tensor) -> Tensor:
    """Project ``delta`` (B, C, H, W) in L2 to the points with <normal, point> = level (B,) and x + point in the box.

    The projection is the clipped delta + t normal; a few steps of Newton's method find t (B,) to about a thousandth.
    If the plane misses the box, the result approaches the plane.
    """
    shift = torch.zeros_like(level)
    for _ in range(NEWTON):
        wanted = delta + per_sample(shift, normal) * normal
        short = level - (normal * wanted.clamp(-x, 1 - x)).flatten(1).sum(dim=1)
        ahead = normal * per_sample(short, normal)  # the direction in which each pixel has to move
        free = ((wanted > -x) | (ahead > 0)) & ((wanted < 1 - x) | (ahead < 0))
        shift = shift + short / (normal.square() * free).flatten(1).sum(dim=1).clamp_min(TINY)
    return (delta + per_sample(shift, normal) * normal).clamp(-x, 1 - x)


def distances(x: Tensor, x_adv: Tensor) -> dict[Norm, Tensor]:
    """Return the distance between x and x_adv in all four norms, each (B,) float64."""
    delta = x_adv.double() - x.double()
    return {norm: length(delta, norm) for norm in NORMS}


@dataclass(frozen=True)
class Threat:
    """The threat: all images within ``eps`` of the original in ``norm``, in pixel units of [0, 1]; in L0, in pixels.

    ``eps`` None means the whole box.
    """

    norm: Norm
    eps: float | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InvalidInput(f"unknown norm {self.norm!r}; there are {', '.join(NORMS)}", "norm")
        if self.eps is not None and not 0 <= self.eps <= MAX_EPS:
            raise InvalidInput(f"eps must be a number from 0 to {MAX_EPS:g}, not {self.eps}", "eps")

    @property
    def radius(self) -> float:
        return float("inf") if self.eps is None else self.eps

    def on_grid(self) -> "Threat":
        """Return the threat that 8-bit images can use up: in Linf, eps is rounded down to a multiple of 1/255."""
        if self.norm != "linf" or self.eps is None:
            return self
        return Threat(self.norm, math.floor(self.eps * 255 + 1e-6) / 255)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Project ``x_adv`` into the ball, then clip it to the box, which can only shorten the distance from x."""
        if self.eps is None:
            return x_adv.clamp(0, 1)
        return (x + shorten(x_adv - x, self.norm, self.eps)).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the direction of steepest ascent, of size one in the norm (Linf or L2)."""
        return steepest(gradient, self.norm)

    def sample(self, x: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """Return a uniform random point of the Linf or L2 ball around x, clipped to the box.

        ``normal`` (B, C, H, W) gives the direction, ``uniform`` (B,) the distance (L2 only). Needs an eps.
        """
        assert self.eps is not None
        if self.norm == "linf":
            return (x + self.eps * torch.erf(normal / 2**0.5)).clamp(0, 1)  # erf(z / sqrt 2) is uniform in (-1, 1)
        length = self.eps * uniform ** (1 / x[0].numel())
        return (x + unit(normal) * per_sample(length, x)).clamp(0, 1)

    def enclosing_l2(self, shape: tuple[int, int, int]) -> float:
        """Return the radius of the smallest L2 ball that contains every image (C, H, W) of the threat in the box."""
        channels, values = shape[0], shape[0] * shape[1] * shape[2]
        if self.norm == "l2":
            return self.radius
        within_box = {"linf": self.radius**2 * values, "l1": min(self.radius, self.radius**2)}
        return math.sqrt(min(within_box.get(self.norm, self.radius * channels), values))

    def size(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Return the distance between x and x_adv in this threat's norm: (B,) float64."""
        return length(x_adv.double() - x.double(), self.norm)
