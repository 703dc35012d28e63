"""The smoothed classifier in a report: its certificates, and a fresh vote on images moved towards adversarial ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.attacks import price
from gauntlet.certify.smoothing import ABSTAINED, certify, votes
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.evaluation import referee
from gauntlet.report.records import SmoothedMeasurement, SmoothingSpec
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat, l2, unit

EXAMINED = 64  # certified images, the first ones, that are moved and classified again
ATTACK, PARAMS = "ddn", {"steps": 100}  # the attack whose example gives the direction of the move
GRADIENT_FREE = ("hopskipjump", {"queries": 500})  # the same for models without gradients
REACH = 0.99  # share of the radius by which they are moved
DRAWS = 1_000  # noisy copies that vote on a moved image


def cost(spec: SmoothingSpec, n: int) -> int:
    """Return the number of passes through the network, at most."""
    images = min(spec.images, n)
    return images * spec.per_image + min(images, EXAMINED) * (price(ATTACK, PARAMS) + DRAWS)


def measure(
    model: Classifier,
    x: Tensor,
    smoothing: Smoothing,
    *,
    seed: int,
    check_cancelled: Callable[[], None],
    on_images: Callable[[int], None],
) -> SmoothedMeasurement:
    """Certify images (n, C, H, W), move each by 0.99 of its radius towards an example of DDN's, and vote again.

    The second vote draws fresh noise, on which neither the certificate nor the attack depends. ``on_images`` receives
    the number of images certified.
    """
    labels, radii = [], []
    for i, image in enumerate(x):
        found = certify(
            model.predict, image[None], smoothing, seed=seed, first_index=i, check_cancelled=check_cancelled
        )
        labels.append(int(found.label))
        radii.append(float(found.radius))
        on_images(i + 1)
    shown, inside, kept = _shown_again(
        model, x, torch.tensor(labels), torch.tensor(radii), smoothing, seed, check_cancelled
    )
    return SmoothedMeasurement(
        smoothing=smoothing, labels=labels, radii=radii, shown=shown, inside=inside, kept=kept, draws=DRAWS
    )


def _shown_again(
    model: Classifier,
    x: Tensor,
    labels: Tensor,
    radii: Tensor,
    smoothing: Smoothing,
    seed: int,
    check_cancelled: Callable[[], None],
) -> tuple[list[int], list[bool], list[int]]:
    """Return which images were moved, whether the attack's example lies inside the radius, and votes for the label."""
    rows = (labels != ABSTAINED).nonzero().squeeze(1)[:EXAMINED]
    if len(rows) == 0:
        return [], [], []
    x, y, radius = x[rows], labels[rows], radii[rows]
    attack, params = (ATTACK, PARAMS) if model.manifest.differentiable else GRADIENT_FREE
    found = referee.run(
        model, attack, x, y, Threat("l2"), seed=seed, index=rows, params=params, check_cancelled=check_cancelled
    )
    won = found.success
    direction = found.images[won] - x[won]
    moved = x[won] + REACH * radius[won].view(-1, 1, 1, 1) * unit(direction)
    kept = votes(model.predict, moved, y[won], smoothing.sigma, DRAWS, seed=seed + 1, check_cancelled=check_cancelled)
    return rows[won].tolist(), (l2(direction) < radius[won]).tolist(), kept
