"""A registry for each process that Prometheus asks.

BentoML asks for multi-process files, shared by every BentoML server of this machine. There is one API process here, and
one worker, so the values stay in their memory: the variable must be gone before prometheus_client is imported. That is
why everybody imports it through here.
"""

import os

os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

import numpy as np
import prometheus_client
from numpy.typing import ArrayLike
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = [
    "CONTENT_TYPE_LATEST",
    "Collector",
    "Counter",
    "Gauge",
    "GaugeMetricFamily",
    "Histogram",
    "Metric",
    "generate_latest",
    "registry",
]

disable_created_metrics()  # type: ignore[no-untyped-call]


class Histogram(prometheus_client.Histogram):
    """One that takes a batch at once: an observation alone takes as long as the prediction that it is about."""

    def observe_all(self, values: ArrayLike) -> None:
        """As ``observe`` of each."""
        amounts = np.asarray(values, dtype=np.float64)
        places = np.searchsorted(self._upper_bounds, amounts)  # the first bound that is not below; a NaN has none
        counts = np.bincount(places, minlength=len(self._buckets)).tolist()
        self._sum.inc(float(amounts.sum()))
        for bucket, count in zip(self._buckets, counts, strict=False):
            if count:
                bucket.inc(count)


def registry() -> CollectorRegistry:
    """With the figures of the process itself."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made
