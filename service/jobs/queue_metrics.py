"""What Prometheus is told of reports and their database."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from service.jobs.status import Backlog, Status
from service.observability.exposition import Collector, GaugeMetricFamily, Metric


class JobMetrics(Collector):
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
