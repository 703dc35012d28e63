"""A registry for each process that Prometheus asks.

BentoML asks for multi-process files, shared by every BentoML server of this machine. There is one API process here, and
one worker, so the values stay in their memory: the variable must be gone before prometheus_client is imported. That is
why everybody imports it through here.
"""

import os

os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
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


def registry() -> CollectorRegistry:
    """With the figures of the process itself."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made
