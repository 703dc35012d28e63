"""Bounds in a report: interval arithmetic proves a radius for each image, CROWN tries the requested distances."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet import predicted_labels
from gauntlet.bounds.bounder import Bounder
from gauntlet.bounds.builder import Unboundable
from gauntlet.norms import Norm
from gauntlet.report.records import BoundsMeasurement, BoundsSpec, ProvedRadii
from gauntlet.runtime.classifier import Classifier
from gauntlet.unanswered_label import UNANSWERED

SMALLEST = 1e-4  # the smallest Linf radius that intervals try
HALVINGS = 12  # bisection steps on the logarithm of a radius, which is then known within 0.3 %
CHUNK = 128  # images per batch
SECONDS = 600.0  # timeout of CROWN per image and distance; so long that its fixed work ends first, on any machine
INTERVAL_PRICE, CROWN_PRICE = 3 * HALVINGS, 2_000  # passes through the network per image


def cost(spec: BoundsSpec, n: int, distances: int) -> int:
    """Return the approximate number of passes through the network; the true cost of CROWN depends on the network."""
    return n * INTERVAL_PRICE + min(n, spec.images) * distances * CROWN_PRICE


def measure(
    model: Classifier,
    x: Tensor,
    spec: BoundsSpec,
    distances: Iterable[tuple[Norm, float]],
    *,
    check_cancelled: Callable[[], None],
    on_images: Callable[[int], None],
) -> BoundsMeasurement:
    """Prove that the predicted class of images (n, C, H, W) holds: by intervals for all, by CROWN for the first ones.

    Intervals bisect the Linf radius; CROWN tries ``distances`` in Linf and in L2, the smallest first, until one fails.
    ``on_images`` receives the number of images done.
    """
    try:
        images = _Images(model, model.bounder, x, model.predict(x))
    except Unboundable as error:
        return BoundsMeasurement(reason=str(error), radii=[])
    linf = images.by_intervals(check_cancelled, lambda done: on_images(done // 2))
    proved = [ProvedRadii(norm="linf", method="interval", radii=linf.tolist())]
    first = min(len(x), spec.images)
    for norm in ("linf", "l2") if first else ():
        requested = sorted(eps for kind, eps in distances if kind == norm)
        radii = [0.0] * len(x)
        for row in range(first):
            check_cancelled()
            radii[row] = images.by_crown(row, norm, requested, float(linf[row]))
            on_images((len(x) + len(x) * row // first) // 2)
        if any(radii):
            proved.append(ProvedRadii(norm=norm, method="crown", radii=radii))
    return BoundsMeasurement(reason=None, radii=proved)


@dataclass(frozen=True)
class _Images:
    """Images and the logits of the served model on them."""

    model: Classifier
    bounder: Bounder
    x: Tensor  # (n, C, H, W)
    logits: Tensor  # (n, K)

    @property
    def labels(self) -> Tensor:
        return predicted_labels.labels(self.logits)

    @property
    def slack(self) -> Tensor:
        return torch.from_numpy(self.model.certificate.slack(self.logits))

    def by_intervals(self, check_cancelled: Callable[[], None], on_images: Callable[[int], None]) -> Tensor:
        """Return the proved Linf radii (n,); 0 where not even the smallest is proved."""
        labels, slack = self.labels, self.slack
        radii = torch.zeros(len(self.x), dtype=torch.float64)
        for rows in torch.split((labels != UNANSWERED).nonzero().squeeze(1), CHUNK):
            part = self.x[rows], labels[rows]
            low = torch.zeros(len(rows), dtype=torch.float64)
            high = torch.ones_like(low)
            for _ in range(HALVINGS):
                check_cancelled()
                middle = (low.clamp_min(SMALLEST) * high).sqrt()
                proved = self.bounder.intervals(*part, middle, slack[rows]) > 0
                low, high = torch.where(proved, middle, low), torch.where(proved, high, middle)
            radii[rows] = low
            on_images(int(rows[-1]) + 1)
        return radii

    def by_crown(self, row: int, norm: Norm, distances: list[float], known: float) -> float:
        """Return the largest of the ``distances`` that CROWN proves before the first failure; 0: none.

        Distances up to ``known`` are skipped: intervals proved that radius in Linf.
        """
        best, label = 0.0, int(self.labels[row])
        for eps in distances:
            if eps > known:
                if label == UNANSWERED:
                    break
                slack = float(self.slack[row])
                if not self.bounder.prove(self.x[row], label, norm, eps, slack, ("crown",), SECONDS).excluded:
                    break
                best = eps
        return best
