"""What is said of images once a model has given their logits: labels, probabilities, margins, certified radii."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.certify.lipschitz import Certificate
from gauntlet.runtime.interval_radii import IntervalRadii
from gauntlet.unanswered_label import UNANSWERED
from service.observability import metrics

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class PredictionModel(Protocol):
    """A classifier that is served, wherever its network runs."""

    name: str
    manifest: ClassifierManifest
    certificate: Certificate
    intervals: IntervalRadii | None  # of models that were trained for them

    def predict(self, x: Floats) -> Floats:
        """Images (B, C, H, W) in [0, 1] to logits (B, K)."""
        ...


@dataclass(frozen=True)
class Classified:
    """A batch of n images. Where the model answers with NaN or infinite numbers, probabilities and margin are NaN."""

    logits: Floats  # (n, K)
    probabilities: Doubles  # (n, K)
    margins: Doubles  # (n,), largest logit less the second largest
    radii: Doubles | None  # (n,), certified L2 radii in pixel units; None: nothing is proved of this model
    linf_radii: Doubles | None  # (n,), certified Linf radii; None: the model was not trained for interval bounds

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,); UNANSWERED where there is no answer."""
        return np.where(np.isnan(self.margins), UNANSWERED, self.probabilities.argmax(axis=1))


def classify(model: PredictionModel, x: Floats) -> Classified:
    """Images (n, C, H, W) in [0, 1]."""
    logits = model.predict(x)
    probabilities, margins = softmax(logits, model.manifest.temperature)
    linf = None
    if model.intervals is not None:
        linf = model.intervals.radii(x, logits, model.certificate.slack(logits))
    return Classified(logits, probabilities, margins, model.certificate.radius(logits), linf)


def softmax(logits: Floats, temperature: float) -> tuple[Doubles, Doubles]:
    """Logits (n, K) to probabilities (n, K) and the differences (n,) of the two largest logits; NaN for no answer.

    The temperature changes the probabilities alone.
    """
    z = logits.astype(np.float64)
    z[~np.isfinite(z).all(axis=1)] = np.nan
    second, first = np.partition(z, -2, axis=1)[:, -2:].T
    powers = np.exp((z - first[:, None]) / temperature)
    return powers / powers.sum(axis=1, keepdims=True), first - second


def count(model: PredictionModel, route: str, found: Classified) -> None:
    """For Prometheus."""
    scaled = found.margins / model.manifest.temperature
    differences = found.probabilities.max(axis=1) * -np.expm1(-scaled)  # p1 - p2 = p1 (1 - exp(z2 - z1))
    metrics.count_predictions(model.name, route, differences, () if found.radii is None else found.radii)
