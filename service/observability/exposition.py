"""prometheus_client, set up for several processes: that is why everybody imports it through here.

The processes that answer and the one that computes write their counters to files of one folder, and the /metrics of any
of them adds all up (prometheus_client's multi-process mode): each of them calls ``count_together`` before it counts.
The folder is ours: BentoML's own is shared by every BentoML server of the machine. A worker has a port of its own and
keeps its values in memory.
"""

import io
import os
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any

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
    mmap_dict,
    values,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

__all__ = [
    "CONTENT_TYPE_LATEST",
    "AllProcesses",
    "Collector",
    "CollectorRegistry",
    "Counter",
    "Gauge",
    "GaugeMetricFamily",
    "Histogram",
    "Metric",
    "count_together",
    "generate_latest",
    "registry",
]

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client looks for the folder."""

os.environ.pop(SHARED, None)  # BentoML's folder
values.ValueClass = values.MutexValue
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Reserved(io.FileIO):
    """A file whose space is the disk's from the start: on a full one, writing to a map of it would end the process."""

    def truncate(self, size: int | None = None) -> int:
        assert size is not None
        os.posix_fallocate(self.fileno(), 0, size)
        return size


def _open(name: str, mode: str) -> Any:
    return _Reserved(name, "a+") if mode == "a+b" else open(name, mode)  # noqa: PTH123


mmap_dict.open = _open  # type: ignore[attr-defined]  # in the place of the builtin
mmap_dict._INITIAL_MMAP_SIZE = 2**20  # noqa: SLF001  # thousands of series


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


def count_together(folder: Path) -> None:
    """Count in files of this folder, which exists, from now on: together with all processes that do.

    Series that were made before are not exported: each keeps the kind of value that it was made with.
    """
    os.environ[SHARED] = str(folder)
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """With the figures of the process itself."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made


class AllProcesses(Collector):
    """The counters of all processes that share the folder, or of this one alone where there is none.

    Series of a model that ``models`` does not hold are left out: names come and go without end, and in files nothing
    can be removed.
    """

    def __init__(self, own: CollectorRegistry, models: Callable[[], Container[str]]) -> None:
        self._own, self._models = own, models

    def collect(self) -> Iterable[Metric]:
        folder, models = os.environ.get(SHARED), self._models()
        shared = None if folder is None else MultiProcessCollector(CollectorRegistry(), path=folder)  # type: ignore[no-untyped-call]
        for metric in self._own.collect() if shared is None else shared.collect():  # type: ignore[no-untyped-call]
            metric.samples = [
                sample for sample in metric.samples if "model" not in sample.labels or sample.labels["model"] in models
            ]
            yield metric

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are registered where they are defined."""
        return ()
