"""What Prometheus sees at /metrics. Every label is bounded: loaded models, known routes, closed sets.

BentoML asks for multi-process files, shared by every BentoML server of this machine. There is one API process here, so
the values stay in its memory: the variable must be gone before prometheus_client is imported.
"""

import os

os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

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


class Jobs(Collector):
    """Report jobs and workers, read from the job database at each scrape; absent while it cannot be read."""

    def __init__(self, counts: Callable[[], Mapping[str, int]], workers: Callable[[], int]) -> None:
        self._counts, self._workers = counts, workers

    def collect(self) -> Iterable[Metric]:
        try:
            counts, alive = self._counts(), self._workers()
        except Exception:  # a scrape without these beats no scrape; /readyz has the reason
            return
        reports = GaugeMetricFamily("gauntlet_reports", "Report jobs in the database, by status", labels=["status"])
        for status, count in counts.items():
            reports.add_metric([status], count)
        yield reports
        workers = GaugeMetricFamily("gauntlet_workers", "Workers with a fresh heartbeat")
        workers.add_metric([], alive)
        yield workers

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering asks the database nothing."""
        return ()
