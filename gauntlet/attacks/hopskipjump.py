"""HopSkipJump: an attack that sees only labels."""

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

STARTS = 100  # noise images tried at most
PROBES = 100  # of the boundary's direction in the first round; they grow with the root of the round's number
FEWEST = 10  # probes that are worth a round
LEAPS = 10  # step sizes tried in a round
FINE = 0.01
WIDTH = 0.1  # of the first probes


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
    """Minimum-norm attack that knows only labels: along the boundary, in steps that random probes of it point out.

    Chen, Jordan and Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", arXiv 1904.02144. It
    starts at the first noise image of another class (``targeted``: of class y; the paper starts at a photograph of that
    class, so a class that no noise belongs to is out of reach here). Noise of one kind can all be of one class, so it
    is drawn coarser, darker and brighter in turn. Returns the nearest image found, x itself where no start was.
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
        probes = (oracle.left[rows] - LEAPS - halvings).clamp_max(int(PROBES * hop**0.5))
        going = probes >= FEWEST
        rows, point, before, after, probes = (value[going] for value in (rows, point, before, after, probes))
        width = torch.full_like(before, WIDTH) if hop == 1 else FINE * before
        normal = _normal(oracle, rows, point, width, probes, threat, generator.at(rows), hop)
        point = _leap(oracle, rows, point, threat.steepest(normal), after / hop**0.5)
    return best


@dataclass(frozen=True)
class _Oracle:
    """Tells which images fool the model, as long as it may: of the logits nothing but the largest one's place."""

    model: Model
    y: Tensor
    targeted: bool
    left: Tensor  # (B,) questions

    def __call__(self, rows: Tensor, points: Tensor) -> Tensor:
        """(n,) bool for points (n, C, H, W) of the samples ``rows``; False where no question is left."""
        fooled = torch.zeros_like(rows, dtype=torch.bool)
        asking = self.left[rows] > 0
        if bool(asking.any()):
            rows = rows[asking]
            with torch.no_grad():
                label = self.model.at(rows)(points[asking]).argmax(dim=1)
            fooled[asking] = (label == self.y[rows]) == self.targeted
            self.left[rows] -= 1
        return fooled


def _start(oracle: _Oracle, x: Tensor, generator: KeyedRandom) -> tuple[Tensor, Tensor]:
    """The samples for which noise of the right class was found, and that noise."""
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
    """From ``point``, which fools the model, towards the origin as far as it still does, by bisection."""
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
    """As near to the origin as ``share`` of the distance: on the line, in Linf by clipping the largest changes."""
    delta = point - origin
    if threat.norm == "l2":
        return origin + per_sample(share, delta) * delta
    limit = per_sample(share * delta.flatten(1).abs().amax(dim=1), delta)
    return origin + delta.clamp(-limit, limit)


def _normal(
    oracle: _Oracle,
    rows: Tensor,
    point: Tensor,
    width: Tensor,
    probes: Tensor,
    threat: Threat,
    keys: KeyedRandom,
    hop: int,
) -> Tensor:
    """Which way the boundary faces at each point (n, C, H, W), by that many ``probes`` (n,) of length ``width`` (n,).

    The mean of the directions that fool the model, less the mean of those that do not.
    """
    scale, shape = per_sample(width, point), tuple(point.shape[1:])
    total, count = torch.zeros(2, *point.shape, device=point.device), torch.zeros(2, len(rows), device=point.device)
    for probe in range(int(probes.max()) if len(rows) else 0):
        asking = (probe < probes).nonzero().squeeze(1)
        draw, source = (hop << 20) + probe, keys.at(asking)
        direction = source.normal(draw, shape) if threat.norm == "l2" else 2 * source.uniform(draw, shape) - 1
        ahead = (point[asking] + scale[asking] * unit(direction)).clamp(0, 1)
        side = oracle(rows[asking], ahead).long()
        total[side, asking] += (ahead - point[asking]) / scale[asking]
        count[side, asking] += 1
    away, towards = total / count.clamp_min(1)[:, :, None, None, None]
    return towards - away


def _leap(oracle: _Oracle, rows: Tensor, point: Tensor, direction: Tensor, step: Tensor) -> Tensor:
    """The longest step along the direction, of halved lengths, that still fools the model."""
    pending = torch.arange(len(rows), device=rows.device)
    reached = point.clone()
    for _ in range(LEAPS):
        if len(pending) == 0:
            break
        ahead = (point[pending] + per_sample(step[pending], point) * direction[pending]).clamp(0, 1)
        fooled = oracle(rows[pending], ahead)
        reached[pending[fooled]] = ahead[fooled]
        pending, step = pending[~fooled], step / 2
    return reached
