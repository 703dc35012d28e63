"""Bounds in a report: the radius that intervals prove of each image, and the distances asked for, by CROWN."""

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

SMALLEST = 1e-4  # Linf radius that intervals are asked for
HALVINGS = 12  # of the logarithm of a radius: it is known within 0.3 %
CHUNK = 128  # images at once
SECONDS = 600.0  # that CROWN may take for one image and distance: what ends it is its length, which no machine changes
INTERVAL_PRICE, CROWN_PRICE = 3 * HALVINGS, 2_000  # passes through the network


def cost(spec: BoundsSpec, n: int, distances: int) -> int:
    """Passes through the network, about: CROWN's depend on the network."""
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
    """Of images (n, C, H, W), the class being the model's own answer: intervals on all, CROWN on the first of them.

    Intervals bisect the Linf radius; CROWN tries the ``distances`` in Linf and L2, the nearest first, until one fails.
    """
    try:
        images = _Images(model, model.bounder, x, model.predict(x))
    except Unboundable as error:
        return BoundsMeasurement(reason=str(error), radii=[])
    linf = images.by_intervals(check_cancelled, lambda done: on_images(done // 2))
    found = [ProvedRadii(norm="linf", method="interval", radii=linf.tolist())]
    first = min(len(x), spec.images)
    for norm in ("linf", "l2") if first else ():
        asked = sorted(eps for kind, eps in distances if kind == norm)
        radii = [0.0] * len(x)
        for row in range(first):
            check_cancelled()
            radii[row] = images.by_crown(row, norm, asked, float(linf[row]))
            on_images((len(x) + len(x) * row // first) // 2)
        if any(radii):
            found.append(ProvedRadii(norm=norm, method="crown", radii=radii))
    return BoundsMeasurement(reason=None, radii=found)


@dataclass(frozen=True)
class _Images:
    """Images and what the served model says of them."""

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
        """Linf radii (n,), 0 where not even the smallest is proved."""
        labels, slack = self.labels, self.slack
        found = torch.zeros(len(self.x), dtype=torch.float64)
        for rows in torch.split((labels != UNANSWERED).nonzero().squeeze(1), CHUNK):
            part = self.x[rows], labels[rows]
            low = torch.zeros(len(rows), dtype=torch.float64)
            high = torch.ones_like(low)
            for _ in range(HALVINGS):
                check_cancelled()
                middle = (low.clamp_min(SMALLEST) * high).sqrt()
                proved = self.bounder.intervals(*part, middle, slack[rows]) > 0
                low, high = torch.where(proved, middle, low), torch.where(proved, high, middle)
            found[rows] = low
            on_images(int(rows[-1]) + 1)
        return found

    def by_crown(self, row: int, norm: Norm, distances: list[float], known: float) -> float:
        """The largest of the distances that is proved, none before it having failed; ``known`` is proved in Linf."""
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
