"""Randomized smoothing: certificates for the smoothed version of any classifier.

Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", arXiv 1902.02918. The smoothed
classifier returns the class that the network predicts most often when Gaussian noise is added to the image. Label,
radius and abstention are those of the smoothed classifier, not of the network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Tensor

from gauntlet import predicted_labels
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.unanswered_label import UNANSWERED

BATCH = 1_000  # noisy images in one forward pass
ABSTAINED = -1
SEED_STRIDE = 0x9E3779B97F4A7C15  # between the generator seeds of consecutive seeds, so that their noise differs


@dataclass(frozen=True)
class Smoothed:
    """Answers for n images: ``label`` is ABSTAINED and ``radius`` zero where no class is certain at this confidence."""

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
    """Certify images x (n, C, H, W) with CERTIFY of the paper: guess the class, then prove it with independent noise.

    The class is chosen with ``guess`` noisy images, and proved with ``samples`` others. ``predict`` returns logits
    (B, K) on the CPU. The noise depends only on the seed and on the image's index. For each image, with probability
    1 - alpha, no perturbation shorter than its radius changes the smoothed classifier's answer. ``check_cancelled``
    runs before every batch and ends the computation by raising.
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
    """Return, for each image (n, C, H, W), how many of ``draws`` noisy copies the network gives its label (n,)."""
    hits = []
    for position, (image, label) in enumerate(zip(x, labels.tolist(), strict=True)):
        counts = _votes(predict, image, sigma, draws, _noise(seed, position), check_cancelled)
        hits.append(int(counts[label]))
    return hits


def _noise(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * SEED_STRIDE + index) % 2**63)


def lower_bound(hits: int, draws: int, alpha: float) -> float:
    """Return the one-sided Clopper-Pearson lower confidence bound of the share of hits, at confidence 1 - alpha."""
    return float(betaincinv(hits, draws - hits + 1, alpha)) if hits else 0.0


def _votes(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    sigma: float,
    draws: int,
    noise: torch.Generator,
    check_cancelled: Callable[[], None],
) -> Tensor:
    """Return how often the network predicts each class for noisy copies of an image (C, H, W): (K,)."""
    counts = torch.zeros(0, dtype=torch.int64)
    for first in range(0, draws, BATCH):
        check_cancelled()
        shape = (min(BATCH, draws - first), *image.shape)
        logits = predict(image + sigma * torch.randn(shape, generator=noise))
        labels = predicted_labels.labels(logits)
        answered = labels[labels != UNANSWERED]  # an image without an answer is a vote for no class
        batch_counts = torch.bincount(answered, minlength=logits.shape[1])
        counts = batch_counts if first == 0 else counts + batch_counts
    return counts
