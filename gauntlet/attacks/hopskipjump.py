"""HopSkipJump: a decision-based attack, which uses only the predicted labels."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gauntlet.attacks.base import Model, costs
from gauntlet.attacks.dead_gradient_search import noise_image
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, per_sample, unit

STARTS = 100  # noise images tried, at most
PROBES = 100  # probes of the boundary's normal in the first round; they grow with the square root of the round's number
MIN_PROBES = 10  # with fewer probes left, a sample stops
STEP_SIZES = 10  # step sizes tried in a round, each half the one before
FINE = 0.01  # length of the later probes, as a share of the distance; it also sets the tolerance of bisection
WIDTH = 0.1  # length of the probes in the first round


@costs(lambda p: p.queries)
def hopskipjump(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool = False,
    queries: Annotated[int, Field(ge=1, le=100_000, description="model evaluations per image")] = 1000,
) -> Tensor:
    """Minimum-norm attack that uses only labels: it follows the boundary, whose normal it estimates by random probes.

    Chen, Jordan and Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", arXiv 1904.02144. It
    starts at the first noise image of another class (``targeted``: of class y; the paper starts at a photograph of that
    class, so a class to which no noise image belongs cannot be reached here). Noise of one kind can all be of one
    class, so it is drawn coarser, darker and brighter in turn. Returns the nearest success, x itself if no start was
    found.
    x (B, C, H, W) in [0, 1].
    """
    oracle = _Oracle(model, y, targeted, torch.full_like(y, queries))
    pixels = x[0].numel()
    halvings = math.ceil((0.5 if threat.norm == "l2" else 1) * math.log2(pixels) - math.log2(FINE))
    best, nearest = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    rows, point = _start(oracle, x, generator)
    hop = 0
    while len(rows) > 0:
        hop += 1
        origin = x[rows]
        before = threat.size(origin, point).to(x.dtype)
        point = _approach(oracle, rows, origin, point, threat, halvings)
        after = threat.size(origin, point).to(x.dtype)
        closer = after < nearest[rows]
        best[rows[closer]], nearest[rows[closer]] = point[closer], after[closer]
        probes = (oracle.left[rows] - STEP_SIZES - halvings).clamp_max(int(PROBES * hop**0.5))
        active = probes >= MIN_PROBES
        rows, point, before, after, probes = (value[active] for value in (rows, point, before, after, probes))
        width = torch.full_like(before, WIDTH) if hop == 1 else FINE * before
        normal = _estimate_normal(oracle, rows, point, width, probes, threat, generator.at(rows), hop)
        point = _step(oracle, rows, point, threat.steepest(normal), after / hop**0.5)
    return best


@dataclass(frozen=True)
class _Oracle:
    """Tests which images fool the model, within a query budget per sample. Only the predicted label is used."""

    model: Model
    y: Tensor
    targeted: bool
    left: Tensor  # (B,) queries left

    def __call__(self, rows: Tensor, points: Tensor) -> Tensor:
        """Return which points (n, C, H, W) of the samples ``rows`` fool the model: (n,) bool; False without a query."""
        fooled = torch.zeros_like(rows, dtype=torch.bool)
        allowed = self.left[rows] > 0
        if bool(allowed.any()):
            rows = rows[allowed]
            with torch.no_grad():
                label = self.model.at(rows)(points[allowed]).argmax(dim=1)
            fooled[allowed] = (label == self.y[rows]) == self.targeted
            self.left[rows] -= 1
        return fooled


def _start(oracle: _Oracle, x: Tensor, generator: KeyedRandom) -> tuple[Tensor, Tensor]:
    """Return the samples (m,) for which a noise image of a suitable class was found, and these images (m, C, H, W)."""
    found, start = torch.zeros_like(oracle.y, dtype=torch.bool), torch.zeros_like(x)
    for draw in range(STARTS):
        rows = (~found).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        noise = noise_image(x, generator.at(rows), draw)
        won = oracle(rows, noise)
        start[rows[won]], found[rows[won]] = noise[won], True
    return found.nonzero().squeeze(1), start[found]


def _approach(oracle: _Oracle, rows: Tensor, origin: Tensor, point: Tensor, threat: Threat, halvings: int) -> Tensor:
    """Bisect between ``point``, which fools the model, and the origin; return the nearest point found that fools it."""
    low, high = torch.zeros(len(rows), device=rows.device), torch.ones(len(rows), device=rows.device)
    best = point
    for _ in range(halvings):
        share = (low + high) / 2
        middle = _towards(origin, point, share, threat)
        fooled = oracle(rows, middle)
        low, high = torch.where(fooled, low, share), torch.where(fooled, share, high)
        best = torch.where(per_sample(fooled, best), middle, best)
    return best


def _towards(origin: Tensor, point: Tensor, share: Tensor, threat: Threat) -> Tensor:
    """Reduce the distance to ``share`` of it: along the line in L2, by clipping the largest changes in Linf."""
    delta = point - origin
    if threat.norm == "l2":
        return origin + per_sample(share, delta) * delta
    limit = per_sample(share * delta.flatten(1).abs().amax(dim=1), delta)
    return origin + delta.clamp(-limit, limit)


def _estimate_normal(
    oracle: _Oracle,
    rows: Tensor,
    point: Tensor,
    width: Tensor,
    probes: Tensor,
    threat: Threat,
    keys: KeyedRandom,
    hop: int,
) -> Tensor:
    """Estimate the boundary's normal at each point (n, C, H, W) from ``probes`` (n,) probes of length ``width`` (n,).

    It is the mean of the directions that fool the model minus the mean of those that do not.
    """
    scale, shape = per_sample(width, point), tuple(point.shape[1:])
    total, count = torch.zeros(2, *point.shape, device=point.device), torch.zeros(2, len(rows), device=point.device)
    for probe in range(int(probes.max()) if len(rows) else 0):
        probing = (probe < probes).nonzero().squeeze(1)
        draw, source = (hop << 20) + probe, keys.at(probing)
        direction = source.normal(draw, shape) if threat.norm == "l2" else 2 * source.uniform(draw, shape) - 1
        ahead = (point[probing] + scale[probing] * unit(direction)).clamp(0, 1)
        side = oracle(rows[probing], ahead).long()
        total[side, probing] += (ahead - point[probing]) / scale[probing]
        count[side, probing] += 1
    not_fooled, fooled = total / count.clamp_min(1)[:, :, None, None, None]
    return fooled - not_fooled


def _step(oracle: _Oracle, rows: Tensor, point: Tensor, direction: Tensor, step: Tensor) -> Tensor:
    """Take the longest step along the direction that fools the model, of ``step`` (n,) and its repeated halves."""
    pending = torch.arange(len(rows), device=rows.device)
    reached = point.clone()
    for _ in range(STEP_SIZES):
        if len(pending) == 0:
            break
        ahead = (point[pending] + per_sample(step[pending], point) * direction[pending]).clamp(0, 1)
        fooled = oracle(rows[pending], ahead)
        reached[pending[fooled]] = ahead[fooled]
        pending, step = pending[~fooled], step / 2
    return reached
