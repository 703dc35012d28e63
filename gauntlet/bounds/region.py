"""The set of inputs over which a network is bounded: a box, or its intersection with an L2 ball."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gauntlet.errors import InvalidInput

CLIPPINGS = 10
"""Iterations that estimate the Lagrange multiplier of the ball's constraint; every estimate gives a sound bound."""


@dataclass(frozen=True)
class Region:
    """B sets of inputs: lower <= x <= upper (B, *shape), and ||x - centre||_2 <= eps where there is an eps."""

    lower: Tensor
    upper: Tensor
    centre: Tensor
    eps: float | None = None

    @classmethod
    def box(cls, lower: Tensor, upper: Tensor) -> "Region":
        """Return boxes lower <= x <= upper, (B, *shape) float64. Raises InvalidInput if one is empty or infinite."""
        if not bool((lower <= upper).all()) or not bool((lower.isfinite() & upper.isfinite()).all()):
            raise InvalidInput("every input needs a finite lower and upper bound, the lower one first")
        return cls(lower, upper, (lower + upper) / 2)

    @classmethod
    def ball(cls, x: Tensor, norm: str, eps: float | Tensor) -> "Region":
        """Return the images in [0, 1] within eps of x (B, *shape) in Linf or L2. Raises InvalidInput for another norm.

        In Linf, eps may be a tensor (B,) with a value for each image.
        """
        if norm not in ("linf", "l2"):
            raise InvalidInput(f"bounds are computed in linf and l2, not in {norm}", "norm")
        x = x.double()
        reach = torch.as_tensor(eps, dtype=x.dtype).view(-1, *([1] * (x.dim() - 1)))
        down = torch.where(reach > 0, torch.nextafter(x - reach, x.new_tensor(-torch.inf)), x)
        up = torch.where(reach > 0, torch.nextafter(x + reach, x.new_tensor(torch.inf)), x)
        lower, upper = down.clamp(0, 1), up.clamp(0, 1)
        return cls(lower, upper, x, float(eps)) if norm == "l2" else cls.box(lower, upper)

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        return type(self)(self.lower[rows], self.upper[rows], self.centre[rows], self.eps)

    def to(self, dtype: torch.dtype) -> Self:
        return type(self)(self.lower.to(dtype), self.upper.to(dtype), self.centre.to(dtype), self.eps)

    def minimum(self, a: Tensor) -> Tensor:
        """Return a lower bound of min a . x over each set, for a (B, S, *shape): (B, S). It is exact over a box."""
        flat, base = a.flatten(2), self.centre.flatten(1)[:, None]
        low, high = (end.flatten(1)[:, None] - base for end in (self.lower, self.upper))
        at_centre = (flat @ base.transpose(1, 2)).squeeze(2)
        in_box = torch.minimum(flat * low, flat * high).sum(2)
        if self.eps is None:
            return at_centre + in_box
        return at_centre + torch.maximum(in_box, self._in_ball(flat, low, high))

    def _in_ball(self, a: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return a lower bound (B, S) of a . d over low <= d <= high (B, 1, n) and ||d|| <= eps, by Lagrangian duality.

        For any mu >= 0 the minimum of a . d + mu / 2 (||d||^2 - eps^2) over the box is a lower bound; its minimiser is
        -a / mu, clipped to the box. mu is estimated so that this minimiser has length eps.
        """
        assert self.eps is not None
        square = self.eps**2
        with torch.no_grad():
            mu = (a.square().sum(2) / max(square, 1e-300)).sqrt()
            for _ in range(CLIPPINGS):
                d = -a / mu.clamp_min(1e-300)[..., None]
                inside = (d > low) & (d < high)
                fixed = torch.minimum(torch.maximum(d, low), high).square().masked_fill(inside, 0).sum(2)
                rest = square - fixed
                wanted = ((a.square() * inside).sum(2) / rest.clamp_min(1e-300)).sqrt()
                mu = torch.where(rest > 0, wanted, mu * 2)
        best = torch.minimum(torch.maximum(-a / mu.clamp_min(1e-300)[..., None], low), high).detach()
        dual = (a * best).sum(2) + mu / 2 * (best.square().sum(2) - square)
        plain = -self.eps * a.norm(dim=2)
        return torch.maximum(dual, plain)

    def minimiser(self, a: Tensor) -> Tensor:
        """Return a point of each set where a . x is small, for a (B, *shape): (B, *shape). Over a box: the smallest."""
        if self.eps is None:
            return torch.where(a > 0, self.lower, self.upper)
        length = a.flatten(1).norm(dim=1).clamp_min(1e-300)
        step = self.eps / length.view(-1, *([1] * (a.dim() - 1)))
        return self.project(self.centre - step * a)

    def project(self, x: Tensor) -> Tensor:
        """Project x (B, *shape) onto the box, then onto the ball around ``centre``."""
        x = torch.minimum(torch.maximum(x, self.lower), self.upper)
        if self.eps is None:
            return x
        delta = x - self.centre
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-300)
        return self.centre + delta * (self.eps / length).clamp_max(1).view(-1, *([1] * (x.dim() - 1)))

    def magnitude(self) -> Tensor:
        """Return the largest absolute value of each input over its box, (B, *shape)."""
        return torch.maximum(self.lower.abs(), self.upper.abs())
