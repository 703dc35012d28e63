"""A second search for images at which the gradient is dead: from a success far away back towards the image.

On a plateau of the logits (all ReLUs of a layer inactive, a saturated unit, rounded pixels) the gradient is zero, and
an attack that starts at the image has no direction to follow. Some images far away are classified differently; on the
way back from one of them the logits change, so that there is a gradient to follow.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.attacks.base import Model, shortfall, value_and_gradient
from gauntlet.attacks.fmn import descend
from gauntlet.attacks.pgd import pgd
from gauntlet.norms import Norm
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat, length, per_sample, shorten

TRIES = 30  # noise images, at most
ENOUGH = 3  # successes among the noise images after which no more are tried
CLIMBS = 4  # starts of gradient ascent, if no noise image is a success: the image itself, then noise
HALVINGS = 12  # bisection steps from a success back to the boundary
STEPS = 100  # descent steps along the boundary, in each norm of the route
ROUTE: dict[Norm, tuple[Norm, ...]] = {"linf": ("linf",), "l2": ("l2",), "l1": ("l2", "l1"), "l0": ("l2", "l0")}
"""Norms in which the distance is minimised, in order: for L1 and L0 a dense perturbation is first shortened in L2."""
DRAWS = 1 << 32  # number of the first random draw here, above those of any attack
EVERYWHERE = Threat("linf", 1.0)


def dead_gradient_search(
    attack: Callable[..., Tensor],
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: KeyedRandom,
    targeted: bool,
    minimum_norm: bool,
) -> Tensor:
    """Run the attack, then search again where its gradient was zero; return the nearer result (B, C, H, W) per sample.

    ``attack`` is called as ``attack(model, x, y, generator=)``. The search covers images on a plateau, and those for
    which a ``minimum_norm`` attack found nothing at any distance. A success at a fixed eps is returned unchanged.
    """
    found = attack(model, x, y, generator=generator)
    unguided, size = _on_plateau(model, x, y, targeted), length(found - x, threat.norm)
    if minimum_norm:
        size = torch.where(size > 0, size, torch.inf)
        unguided |= size.isinf()
    rows = unguided.nonzero().squeeze(1)
    if len(rows) == 0:
        return found
    unbroken = _lacking(model.at(rows), found[rows], y[rows], targeted) >= 0
    size[rows] = torch.where(unbroken, torch.inf, size[rows])
    rows = rows if minimum_norm else rows[unbroken]
    point, distance = _search_from_noise(model.at(rows), x[rows], y[rows], threat.norm, generator.at(rows), targeted)
    nearer = distance < size[rows]
    return found.index_copy(0, rows[nearer], point[nearer])


def noise_image(x: Tensor, generator: KeyedRandom, draw: int) -> Tensor:
    """Return one noise image for each of x (B, C, H, W), whose cell size and brightness depend on ``draw``.

    Successive draws are uniform noise in ever larger cells, then the same darker, then brighter: a model may assign all
    noise of one kind to one class.
    """
    channels, height, width = x.shape[1:]
    sizes = max(height, width).bit_length()
    kind = draw % DRAWS
    cell, power = 2 ** (kind % sizes), (1.0, 4.0, 0.25)[kind // sizes % 3]
    coarse = generator.uniform(draw, (channels, -(-height // cell), -(-width // cell))) ** power
    return coarse.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[:, :, :height, :width]


def _on_plateau(model: Model, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Return at which images x (B, C, H, W) the margin's gradient is exactly zero or NaN: (B,) bool."""
    _, gradient = value_and_gradient(model, x, lambda logits: shortfall(logits, y, targeted))
    return gradient.flatten(1).abs().amax(dim=1) == 0


def _search_from_noise(
    model: Model, x: Tensor, y: Tensor, norm: Norm, generator: KeyedRandom, targeted: bool
) -> tuple[Tensor, Tensor]:
    """Return each sample's smallest success (B, C, H, W) found from noise, and its length (B,), inf if none."""
    best, smallest = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    successes = torch.zeros_like(y)
    for draw in range(TRIES + CLIMBS):
        rows = (successes < (ENOUGH if draw < TRIES else 1)).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        point = x[rows] if draw == TRIES else noise_image(x[rows], generator.at(rows), DRAWS + draw)
        if draw >= TRIES:
            point = pgd(model.at(rows), point, y[rows], EVERYWHERE, generator=generator.at(rows), targeted=targeted)
        won = _lacking(model.at(rows), point, y[rows], targeted) < 0
        rows, point = rows[won], point[won]
        successes[rows] += 1
        point, size = _bisect(model.at(rows), x[rows], y[rows], point, ROUTE[norm][0], targeted)
        nearer = size < smallest[rows]
        best[rows[nearer]], smallest[rows[nearer]] = point[nearer], size[nearer]
    rows = (successes > 0).nonzero().squeeze(1)
    if len(rows):
        best[rows] = _descend(model.at(rows), x[rows], y[rows], best[rows], norm, generator.at(rows), targeted)
    return best, torch.where(successes > 0, length(best - x, norm), torch.inf)


def _descend(
    model: Model, x: Tensor, y: Tensor, point: Tensor, norm: Norm, generator: KeyedRandom, targeted: bool
) -> Tensor:
    """Descend from the successes ``point`` along the boundary; return the nearest successes (B, C, H, W) found."""
    for leg in ROUTE[norm]:
        point, _ = _bisect(model, x, y, point, leg, targeted)
        point, _ = descend(model, x, y, point, leg, generator=generator, targeted=targeted, steps=STEPS)
    return point


def _bisect(model: Model, x: Tensor, y: Tensor, point: Tensor, norm: Norm, targeted: bool) -> tuple[Tensor, Tensor]:
    """Bisect the length of successes in the norm: return successes (B, C, H, W) nearer to x, and their lengths (B,)."""
    delta = point - x
    high = length(delta, norm)
    low = torch.zeros_like(high)
    for _ in range(HALVINGS if len(x) else 0):
        middle = (low + high) / 2
        nearer = (x + shorten(delta, norm, middle)).clamp(0, 1)
        won = _lacking(model, nearer, y, targeted) < 0
        point = torch.where(per_sample(won, point), nearer, point)
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return point, length(point - x, norm)


def _lacking(model: Model, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    with torch.no_grad():
        return shortfall(model(x), y, targeted)
