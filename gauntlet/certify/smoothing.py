"""Randomized smoothing: a certificate for any classifier, of its smoothed version.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", arXiv 1902.02918. The smoothed
classifier answers what the network says most often when Gaussian noise is added to the image: label, radius and
abstention are its own, not the network's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Tensor

from gauntlet import predicted_labels
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.unanswered_label import UNANSWERED

BATCH = 1_000  # noisy images shown to the network at once
ABSTAINED = -1
ODD = 0x9E3779B97F4A7C15  # keeps the noise of neighbouring seeds apart


@dataclass(frozen=True)
class Smoothed:
    """Of n images: ``label`` ABSTAINED and ``radius`` zero where nothing can be said at this confidence."""

    label: Tensor  # (n,) int64
    radius: Tensor  # (n,) float64, L2, in pixels of [0, 1]


def certify(
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    smoothing: Smoothing,
    *,
    seed: int = 0,
    first_index: int = 0,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Smoothed:
    """CERTIFY of the paper for images x (n, C, H, W): the class of ``guess`` draws, proved with ``samples`` fresh ones.

    ``predict`` gives logits (B, K) on the CPU. The noise depends on the seed and on the image's index alone. With
    probability 1 - alpha, image by image, no perturbation shorter than its radius changes the smoothed classifier's
    answer. ``check_cancelled`` runs before every batch and ends the work by raising.
    """
    tops, radii = [], []
    for position, image in enumerate(x):
        noise = _noise(seed, first_index + position)
        first = _votes(predict, image, smoothing.sigma, smoothing.guess, noise, check_cancelled)
        top = int(first.argmax())
        hits = int(_votes(predict, image, smoothing.sigma, smoothing.samples, noise, check_cancelled)[top])
        share = lower_bound(hits, smoothing.samples, smoothing.alpha)
        tops.append(top if share > 0.5 else ABSTAINED)
        radii.append(smoothing.sigma * float(torch.special.ndtri(torch.tensor(max(share, 0.5), dtype=torch.float64))))
    return Smoothed(torch.tensor(tops), torch.tensor(radii, dtype=torch.float64))


def votes(
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    labels: Tensor,
    sigma: float,
    draws: int,
    *,
    seed: int,
    check_cancelled: Callable[[], None] = lambda: None,
) -> list[int]:
    """Of so many draws around each image (n, C, H, W), how many the network calls by its label (n,)."""
    hits = []
    for position, (image, label) in enumerate(zip(x, labels.tolist(), strict=True)):
        counts = _votes(predict, image, sigma, draws, _noise(seed, position), check_cancelled)
        hits.append(int(counts[label]))
    return hits


def _noise(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * ODD + index) % 2**63)


def lower_bound(hits: int, draws: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: a share below it gives so many hits with probability at most alpha."""
    return float(betaincinv(hits, draws - hits + 1, alpha)) if hits else 0.0


def _votes(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    sigma: float,
    draws: int,
    noise: torch.Generator,
    check_cancelled: Callable[[], None],
) -> Tensor:
    """How often each class is the network's answer to the noisy image (C, H, W): (K,)."""
    counts = torch.zeros(0, dtype=torch.int64)
    for first in range(0, draws, BATCH):
        check_cancelled()
        shape = (min(BATCH, draws - first), *image.shape)
        logits = predict(image + sigma * torch.randn(shape, generator=noise))
        said = predicted_labels.labels(logits)
        found = torch.bincount(said[said != UNANSWERED], minlength=logits.shape[1])  # no answer is a vote for nobody
        counts = found if first == 0 else counts + found
    return counts
