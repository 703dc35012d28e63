"""The square attack: random search without gradients."""

from collections.abc import Callable
from functools import cache, partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from gauntlet.attacks.base import Model, costs, loss, shortfall
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import TINY, Threat, l2, per_sample, unit

SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 after which the squares' area halves
ROUNDING = 1e-5  # of the largest logit: smaller gains are ignored, since they may be rounding errors
TILES = 5  # bumps along each side of the first L2 perturbation

Draw = Callable[[tuple[int, ...]], Tensor]  # shape -> uniform numbers in (0, 1), (B, *shape)


@costs(lambda p: p.queries)
def square(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    queries: Annotated[int, Field(ge=1, le=100_000, description="model evaluations per image")] = 1000,
    p_init: Annotated[float, Field(gt=0, le=1, description="share of the pixels in the first squares")] = 0.8,
) -> Tensor:
    """Random search: redraw a square of the perturbation, and keep it if the margin falls (targeted: the loss).

    Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search",
    arXiv 1912.00049. It uses scores only, no gradient. A sample stops at its first success. Returns that, or the best
    point of the search. x (B, C, H, W) in [0, 1].
    """
    start, redraw = (_stripes, _redraw_signs) if threat.norm == "linf" else (_tiles, _move_mass)
    best, lowest = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    rows = torch.arange(len(x), device=x.device)  # samples without a success
    for query in range(queries):
        draw: Draw = partial(generator.at(rows).uniform, query)
        if query == 0:
            point = start(x[rows], threat.radius, draw)
        else:
            pixels = _share(p_init, query - 1, queries) * x[0, 0].numel()
            point = redraw(x[rows], best[rows], threat.radius, pixels, draw)
        with torch.no_grad():
            logits = model(point)
        short = shortfall(logits, y[rows], targeted)
        value = -loss(logits, y[rows], targeted) if targeted else short
        better = (value < lowest[rows] - ROUNDING * logits.abs().amax(dim=1)) | (short < 0)
        best[rows[better]], lowest[rows[better]] = point[better], value[better]
        active = short >= 0
        if not bool(active.all()):
            rows, model = rows[active], model.at(active)
            if len(rows) == 0:
                break
    return best


def _share(p_init: float, step: int, steps: int) -> float:
    """Return the share of the pixels that a square covers at this step."""
    return p_init / 2 ** sum(step * 10_000 // steps > mark for mark in SCHEDULE)


def _stripes(x: Tensor, eps: float, draw: Draw) -> Tensor:
    """Return the first Linf perturbation: vertical stripes of -eps and eps."""
    _, channels, _, width = x.shape
    return (x + eps * _signs(draw((channels, 1, width)))).clamp(0, 1)


def _redraw_signs(x: Tensor, best: Tensor, eps: float, pixels: float, draw: Draw) -> Tensor:
    """Set a square to -eps or eps, channel by channel; to the opposite sign if that would change nothing."""
    side = min(max(round(pixels**0.5), 1), *x.shape[2:])
    numbers = draw((2 + x.shape[1],))
    inside, _, _ = _square(numbers[:, :2], side, x)
    step = eps * _signs(numbers[:, 2:, None, None])  # (B, C, 1, 1)
    point, opposite = (torch.where(inside, (x + move).clamp(0, 1), best) for move in (step, -step))
    return torch.where(per_sample((point == best).flatten(1).all(dim=1), x), opposite, point)


def _tiles(x: Tensor, eps: float, draw: Draw) -> Tensor:
    """Return the first L2 perturbation, of length eps: a grid of bumps of random orientation and signs."""
    n, channels, height, width = x.shape
    side = max(min(height, width) // TILES, 1)
    numbers = draw((TILES, TILES, 1 + channels, 1, 1))
    bump = _bump(side, x.dtype, x.device)
    grid = torch.where(numbers[:, :, :, :1] < 0.5, bump, bump.T) * _signs(numbers[:, :, :, 1:])  # (B, 5, 5, C, s, s)
    grid = grid.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, TILES * side, TILES * side)
    down, across = height - TILES * side, width - TILES * side
    delta = pad(grid, (across // 2, across - across // 2, down // 2, down - down // 2))
    return (x + eps * unit(delta)).clamp(0, 1)


def _move_mass(x: Tensor, best: Tensor, eps: float, pixels: float, draw: Draw) -> Tensor:
    """Move the L2 mass of a second random square into the first, and add a bump there.

    The first square gets, channel by channel, the length of both squares and the length that clipping left unused.
    """
    side = max(round(pixels**0.5), 3)
    side = min(side + 1 - side % 2, (min(x.shape[2:]) - 1) // 2 * 2 + 1)  # odd
    numbers = draw((5 + x.shape[1],))
    first, row, column = _square(numbers[:, :2], side, x)
    second, _, _ = _square(numbers[:, 2:4], side, x)
    delta, bump = best - x, _bump(side, x.dtype, x.device)
    standing = numbers[:, 4, None, None] < 0.5
    bump = torch.where(standing, bump.T[row, column], bump[row, column])[:, None]  # (B, 1, H, W)
    unused = (eps**2 - l2(delta).square()).clamp_min(0) / x.shape[1]
    available = (_length(delta * (first | second)).square() + per_sample(unused, x)).sqrt()  # (B, C, 1, 1)
    held = delta * first
    fresh = (_signs(numbers[:, 5:, None, None]) * bump + held / _length(held).clamp_min(TINY)) * first
    fresh = fresh / _length(fresh).clamp_min(TINY) * available
    return (x + eps * unit(torch.where(first, fresh, delta * ~second))).clamp(0, 1)


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _length(delta: Tensor) -> Tensor:
    """Return the Euclidean length of each channel: (B, C, H, W) -> (B, C, 1, 1)."""
    return delta.square().sum(dim=(2, 3), keepdim=True).sqrt()


def _square(numbers: Tensor, side: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a random square inside each image: its mask (B, 1, H, W), and the pixels' rows and columns within it.

    ``numbers`` (B, 2) in (0, 1) give its corner. Rows (B, H, 1) and columns (B, 1, W) count from there, clamped to
    0 .. side - 1.
    """
    offsets, covered = [], []
    for number, size in zip(numbers.unbind(1), x.shape[2:], strict=True):
        offset = torch.arange(size, device=x.device) - (number * (size - side + 1)).long()[:, None]
        covered.append((offset >= 0) & (offset < side))
        offsets.append(offset.clamp(0, side - 1))
    inside = (covered[0][:, :, None] & covered[1][:, None, :])[:, None]
    return inside, offsets[0][:, :, None], offsets[1][:, None, :]


@cache
def _bump(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a (side, side) bump of length one: two halves of opposite sign, each decaying from its middle outward."""
    halves = [
        sign * _rings(height, side, dtype, device)
        for sign, height in ((1, side // 2), (-1, side - side // 2))
        if height
    ]
    return unit(torch.cat(halves)[None])[0]


def _rings(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return, per pixel, the sum of 1 / (k + 1)^2 over the rectangles (half-width k) that cover it; of length one."""
    row, column = (torch.arange(size, device=device) - size // 2 for size in (height, width))
    first = torch.maximum(row.abs()[:, None], column.abs()[None, :])  # the smallest rectangle around this pixel
    weights = 1 / torch.arange(1, max(height, width) // 2 + 2, dtype=dtype, device=device).square()
    return unit(weights.flip(0).cumsum(0).flip(0)[first][None])[0]
