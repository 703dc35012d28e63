"""What Prometheus sees at /metrics. Every label is bounded: loaded models, known routes, closed sets."""

from collections.abc import Callable, Container, Sequence

import numpy as np
from numpy.typing import NDArray

from service.observability.exposition import (
    AllProcesses,
    Collector,
    CollectorRegistry,
    Counter,
    Histogram,
    registry,
)

Floats = Sequence[float] | NDArray[np.float64]

REGISTRY = CollectorRegistry()
"""What this process has counted."""

REQUESTS = Counter(
    "gauntlet_requests",
    "Requests by route template, method and status",
    ["route", "method", "status"],
    registry=REGISTRY,
)
LATENCY = Histogram(
    "gauntlet_request_seconds",
    "Time from a request's head to the end of its answer",
    ["route", "method"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
IMAGES = Counter("gauntlet_images", "Images classified, generated or attacked", ["model", "route"], registry=REGISTRY)
ATTACKED = Counter(
    "gauntlet_attacks",
    "Images attacked, by outcome: success, failure, or misclassified from the start",
    ["model", "attack", "outcome"],
    registry=REGISTRY,
)
PERTURBATION = Histogram(
    "gauntlet_perturbation_size",
    "How far successful attacks moved an image, in the norm of the threat and pixel units",
    ["model", "attack", "norm"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    registry=REGISTRY,
)
CERTIFIED_RADIUS = Histogram(
    "gauntlet_certified_radius",
    "Certified L2 radius of predictions, in pixel units",
    ["model"],
    buckets=(0.01, 0.02, 0.05, 0.1, 36 / 255, 72 / 255, 108 / 255, 0.5, 1, 2, 5),
    registry=REGISTRY,
)
PROBABILITY_MARGIN = Histogram(
    "gauntlet_probability_margin",
    "Difference of the two largest probabilities of a prediction",
    ["model"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 0.99),
    registry=REGISTRY,
)


def count_predictions(model: str, route: str, margins: Floats, radii: Floats) -> None:
    """Predictions, and how near they are to another answer: who searches for an evasion stays close to the boundary.

    Differences of the two largest probabilities (n,), NaN where there was no answer, and certified radii, if any.
    """
    seen = np.asarray(margins, dtype=np.float64)
    PROBABILITY_MARGIN.labels(model).observe_all(seen[~np.isnan(seen)])
    CERTIFIED_RADIUS.labels(model).observe_all(radii)
    IMAGES.labels(model, route).inc(len(margins))


def exposed(jobs: Collector, models: Callable[[], Container[str]]) -> CollectorRegistry:
    """All that /metrics tells: of this process, of the reports, and what all processes have counted."""
    made = registry()
    made.register(jobs)
    made.register(AllProcesses(REGISTRY, models))
    return made
