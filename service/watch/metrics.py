"""What Prometheus sees at /metrics. Every label is bounded: loaded models, known routes, closed sets."""

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.jobs.status import Backlog, Status
from service.watch.exposition import Collector, Counter, GaugeMetricFamily, Histogram, Metric, registry

if TYPE_CHECKING:
    from service.http.schemas import Prediction

Floats = Sequence[float] | NDArray[np.float64]

REGISTRY = registry()

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


def forget(model: str) -> None:
    """Drop the series of a model that is gone: names come and go without end."""
    for metric in (IMAGES, ATTACKED, PERTURBATION, CERTIFIED_RADIUS, PROBABILITY_MARGIN):
        metric.remove_by_labels({"model": model})


def count_predictions(model: str, route: str, predictions: "Sequence[Prediction]") -> None:
    """Predictions, and how near they are to another answer: who searches for an evasion stays close to the boundary."""
    margins = [  # p1 - p2 = p1 (1 - exp(z2 - z1))
        prediction.probability * -math.expm1(-prediction.margin) for prediction in predictions
    ]
    radii = [prediction.certified_radius for prediction in predictions if prediction.certified_radius is not None]
    count(model, route, margins, radii)


def count(model: str, route: str, margins: Floats, radii: Floats) -> None:
    """Differences of the two largest probabilities (n,), and certified radii (n,), or none where none is proved."""
    PROBABILITY_MARGIN.labels(model).observe_all(margins)
    CERTIFIED_RADIUS.labels(model).observe_all(radii)
    IMAGES.labels(model, route).inc(len(margins))


class Jobs(Collector):
    """What is to be known of reports and their database, read at each scrape; absent while it cannot be read."""

    def __init__(self, backlog: Callable[[], Backlog], workers: Callable[[], int], state: Path) -> None:
        self._backlog, self._workers, self._state = backlog, workers, state

    def collect(self) -> Iterable[Metric]:
        try:
            free = shutil.disk_usage(self._state).free
            yield GaugeMetricFamily("gauntlet_state_free_bytes", "Free space where the state folder lies", free)
        except OSError:  # the folder is gone: so is the job database
            pass
        try:
            backlog, alive = self._backlog(), self._workers()
        except Exception:  # a scrape without these beats no scrape; /readyz has the reason
            yield GaugeMetricFamily("gauntlet_job_database_up", "Whether the job database can be read", 0)
            return
        yield GaugeMetricFamily("gauntlet_job_database_up", "Whether the job database can be read", 1)
        reports = GaugeMetricFamily("gauntlet_reports", "Report jobs in the database, by status", labels=["status"])
        for status in Status:
            reports.add_metric([status], backlog.counts[status])
        yield reports
        yield GaugeMetricFamily(
            "gauntlet_queue_oldest_seconds", "Age of the report that waits longest, 0 if none waits", backlog.oldest
        )
        yield GaugeMetricFamily("gauntlet_workers", "Workers with a fresh heartbeat", alive)

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks the database nothing."""
        return ()
