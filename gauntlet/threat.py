"""What the attacker may do: a norm ball around the image, inside the unit box. The only code that knows norms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.errors import InvalidInput
from gauntlet.norms import NORMS, Norm

TINY = 1e-12  # keeps zero out of denominators


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape (B,) -> (B, 1, 1, ...), to scale each sample of ``like``."""
    return values.view(-1, *([1] * (like.dim() - 1)))


def l2(delta: Tensor) -> Tensor:
    """Euclidean length of each sample: (B, ...) -> (B,)."""
    return delta.flatten(1).norm(dim=1)


def unit(direction: Tensor) -> Tensor:
    """Each sample scaled to L2 length one; a zero stays zero."""
    largest = direction.flatten(1).abs().amax(dim=1)  # first, because squares of tiny numbers vanish
    scaled = direction / per_sample(largest.clamp_min(torch.finfo(direction.dtype).tiny), direction)
    return scaled / per_sample(l2(scaled).clamp_min(TINY), direction)


def shrink(delta: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest point of the L1 ball of radius ``eps`` (one for all, or (B,)) to each sample (B, ...).

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


def keep_largest(delta: Tensor, pixels: int | Tensor) -> Tensor:
    """Each sample (B, C, H, W) with all but its ``pixels`` (one number, or (B,)) farthest-moved pixels put back."""
    moved = delta.norm(dim=1).flatten(1)  # (B, H * W)
    place = moved.argsort(dim=1, descending=True).argsort(dim=1)
    count = torch.as_tensor(pixels, device=delta.device).expand(len(delta))[:, None]
    return delta * (place < count).view(len(delta), 1, *delta.shape[2:])


def distances(x: Tensor, x_adv: Tensor) -> dict[Norm, Tensor]:
    """How far each sample moved in all four norms, each (B,) float64; L0 counts pixels, a colour pixel once."""
    delta = (x_adv.double() - x.double()).flatten(2)  # (B, C, H*W)
    flat = delta.flatten(1)
    return {
        "l2": flat.norm(dim=1),
        "linf": flat.abs().amax(dim=1),
        "l1": flat.abs().sum(dim=1),
        "l0": (delta != 0).any(dim=1).sum(dim=1).double(),
    }


@dataclass(frozen=True)
class Threat:
    """All images within ``eps`` of the original in ``norm``, in pixel units of [0, 1]; for L0, a number of pixels.

    ``eps`` None: the whole box.
    """

    norm: Norm
    eps: float | None = None

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InvalidInput(f"unknown norm {self.norm!r}; there are {', '.join(NORMS)}", "norm")
        if self.eps is not None and not 0 <= self.eps < float("inf"):
            raise InvalidInput(f"eps must be a number of at least 0, not {self.eps}", "eps")

    @property
    def radius(self) -> float:
        return float("inf") if self.eps is None else self.eps

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """``x_adv`` brought into the ball, then into the box: that clipping only ever shortens the way from x."""
        if self.eps is None:
            return x_adv.clamp(0, 1)
        delta = x_adv - x
        match self.norm:
            case "linf":
                delta = delta.clamp(-self.eps, self.eps)
            case "l2":
                delta = delta * per_sample((self.eps / l2(delta).clamp_min(TINY)).clamp_max(1), delta)
            case "l1":
                delta = shrink(delta, self.eps)
            case "l0":
                delta = keep_largest(delta, int(min(self.eps, delta[0, 0].numel())))
        return (x + delta).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of size one in the norm, Linf or L2, that climbs fastest."""
        return gradient.sign() if self.norm == "linf" else unit(gradient)

    def sample(self, x: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """A uniform point of the Linf or L2 ball around x, clipped to the box.

        ``normal`` (B, C, H, W) gives the direction, ``uniform`` (B,) the distance (L2 only). Needs an eps.
        """
        assert self.eps is not None
        if self.norm == "linf":
            return (x + self.eps * torch.erf(normal / 2**0.5)).clamp(0, 1)  # erf(z / sqrt 2) is uniform in (-1, 1)
        length = self.eps * uniform ** (1 / x[0].numel())
        return (x + unit(normal) * per_sample(length, x)).clamp(0, 1)

    def size(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """How far each sample moved in this threat's norm: (B,)."""
        return distances(x, x_adv)[self.norm]
