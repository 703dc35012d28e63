"""A second search for images at which the gradient is dead: from a success far away back towards the image.

On a plateau of the logits (all ReLUs of a layer at rest, a saturated unit, rounded pixels) the gradient is zero, and
an attack that starts at the image has no direction to go. Some images far away are classified differently; on the way
back from one of them the logits change, so that there is a gradient to follow.
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
ENOUGH = 3  # of them classified as the attack wants
CLIMBS = 4  # starts of gradient ascent, where none was: the image and noise
HALVINGS = 12  # of the way back to the boundary
STEPS = 100  # along the boundary, in each norm of the route
ROUTE: dict[Norm, tuple[Norm, ...]] = {"linf": ("linf",), "l2": ("l2",), "l1": ("l2", "l1"), "l0": ("l2", "l0")}
"""In which norms the distance is made small: in L1 and L0 a dense perturbation is first shortened in L2."""
DRAWS = 1 << 32  # the first draw here: no attack counts so far
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
    """What ``attack(model, x, y, generator=)`` returns (B, C, H, W), or what this search finds, if that is nearer.

    It looks at images on a plateau, and at those for which a ``minimum_norm`` attack found nothing at any distance. An
    image that an attack at a fixed eps broke stays as it is.
    """
    found = attack(model, x, y, generator=generator)
    blind, size = _plateau(model, x, y, targeted), length(found - x, threat.norm)
    if minimum_norm:
        size = torch.where(size > 0, size, torch.inf)
        blind |= size.isinf()
    rows = blind.nonzero().squeeze(1)
    if len(rows) == 0:
        return found
    stands = _lacking(model.at(rows), found[rows], y[rows], targeted) >= 0
    size[rows] = torch.where(stands, torch.inf, size[rows])
    rows = rows if minimum_norm else rows[stands]
    point, reached = _elsewhere(model.at(rows), x[rows], y[rows], threat.norm, generator.at(rows), targeted)
    nearer = reached < size[rows]
    return found.index_copy(0, rows[nearer], point[nearer])


def noise_image(x: Tensor, generator: KeyedRandom, draw: int) -> Tensor:
    """An image in the place of each of x (B, C, H, W): uniform noise; then in larger cells; then darker, and brighter.

    Noise of one kind can all be of one class.
    """
    channels, height, width = x.shape[1:]
    sizes = max(height, width).bit_length()
    kind = draw % DRAWS
    cell, power = 2 ** (kind % sizes), (1.0, 4.0, 0.25)[kind // sizes % 3]
    coarse = generator.uniform(draw, (channels, -(-height // cell), -(-width // cell))) ** power
    return coarse.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[:, :, :height, :width]


def _plateau(model: Model, x: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """(B,) bool: the margin's gradient at the images x (B, C, H, W) is exactly zero, or NaN."""
    _, gradient = value_and_gradient(model, x, lambda logits: shortfall(logits, y, targeted))
    return gradient.flatten(1).abs().amax(dim=1) == 0


def _elsewhere(
    model: Model, x: Tensor, y: Tensor, norm: Norm, generator: KeyedRandom, targeted: bool
) -> tuple[Tensor, Tensor]:
    """Each sample's smallest success (B, C, H, W) that a way back from noise led to, and its length (B,), else inf."""
    best, smallest = x.clone(), torch.full_like(y, torch.inf, dtype=x.dtype)
    found = torch.zeros_like(y)
    for draw in range(TRIES + CLIMBS):
        rows = (found < (ENOUGH if draw < TRIES else 1)).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        point = x[rows] if draw == TRIES else noise_image(x[rows], generator.at(rows), DRAWS + draw)
        if draw >= TRIES:
            point = pgd(model.at(rows), point, y[rows], EVERYWHERE, generator=generator.at(rows), targeted=targeted)
        won = _lacking(model.at(rows), point, y[rows], targeted) < 0
        rows, point = rows[won], point[won]
        found[rows] += 1
        point, size = _back(model.at(rows), x[rows], y[rows], point, ROUTE[norm][0], targeted)
        nearer = size < smallest[rows]
        best[rows[nearer]], smallest[rows[nearer]] = point[nearer], size[nearer]
    rows = (found > 0).nonzero().squeeze(1)
    if len(rows):
        best[rows] = _descended(model.at(rows), x[rows], y[rows], best[rows], norm, generator.at(rows), targeted)
    return best, torch.where(found > 0, length(best - x, norm), torch.inf)


def _descended(
    model: Model, x: Tensor, y: Tensor, point: Tensor, norm: Norm, generator: KeyedRandom, targeted: bool
) -> Tensor:
    """The nearest successes (B, C, H, W) on the way along the boundary from successes ``point``."""
    for leg in ROUTE[norm]:
        point, _ = _back(model, x, y, point, leg, targeted)
        point, _ = descend(model, x, y, point, leg, generator=generator, targeted=targeted, steps=STEPS)
    return point


def _back(model: Model, x: Tensor, y: Tensor, point: Tensor, norm: Norm, targeted: bool) -> tuple[Tensor, Tensor]:
    """Successes (B, C, H, W) brought towards x by bisection of their length in the norm; and that length (B,)."""
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
