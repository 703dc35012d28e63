"""What a worker tells of itself: its metrics, and whether it still moves. Labels are loaded models and closed sets."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from service.observability.exposition import Counter, Gauge, Histogram, registry

if TYPE_CHECKING:
    from gauntlet.report.schema import CellResult

HUNG = 600.0
"""Seconds without a turn of the main loop, or a step of the report under way, after which a worker counts as hung."""

REGISTRY = registry()

HEARTBEATS = Counter(
    "gauntlet_worker_heartbeats", "Signs of life, written to the job database or failed", ["outcome"], registry=REGISTRY
)
REPORTS = Counter("gauntlet_worker_reports", "Reports that this worker ended", ["outcome"], registry=REGISTRY)
BUSY = Gauge("gauntlet_worker_busy", "Whether a part of a report is being computed", registry=REGISTRY)
LAST_STEP = Gauge(
    "gauntlet_worker_last_step_timestamp_seconds", "When the computation was last seen to move", registry=REGISTRY
)
SHARDS = Histogram(
    "gauntlet_worker_shard_seconds",
    "Time that one shard of a report took",
    ["kind"],
    buckets=(0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600),
    registry=REGISTRY,
)
IMAGES = Counter("gauntlet_worker_attacked", "Images attacked for reports", ["model", "attack"], registry=REGISTRY)
BROKEN = Counter("gauntlet_worker_broken", "Of these, those broken", ["model", "attack"], registry=REGISTRY)

UPLOADED = "(uploaded)"
"""The model of all uploads together: their names come and go without end, and some are for the eyes of one key."""

for outcome in ("told", "failed"):
    HEARTBEATS.labels(outcome)
for outcome in ("succeeded", "failed", "cancelled"):
    REPORTS.labels(outcome)


class Liveness:
    """When this worker was last seen to move."""

    def __init__(self) -> None:
        self._turned = self._stepped = time.monotonic()
        self._busy = False

    def loop_turned(self, outcome: Literal["told", "failed"]) -> None:
        """The main loop went round, and this became of its sign of life."""
        self._turned = time.monotonic()
        HEARTBEATS.labels(outcome).inc()

    def computation_moved(self) -> None:
        """The computation moved."""
        self._stepped = time.monotonic()
        LAST_STEP.set_to_current_time()

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Something is computed that should be seen to move."""
        self._busy = True
        self.computation_moved()
        BUSY.set(1)
        try:
            yield
        finally:
            self._busy = False
            BUSY.set(0)

    def why_hung(self) -> str | None:
        """Why this worker should be ended and started again, if it should."""
        now = time.monotonic()
        if now - self._turned > HUNG:
            return f"the main loop has not turned for {now - self._turned:.0f} s"
        if self._busy and now - self._stepped > HUNG:
            return f"the computation has not moved for {now - self._stepped:.0f} s"
        return None


LIVENESS = Liveness()


def count(result: "CellResult", *, uploaded: bool) -> None:
    """What was measured here, not read back. ``uploaded``: of somebody's model."""
    cell = result.cell
    SHARDS.labels(cell.kind).observe(result.seconds)
    if result.attack is not None and cell.attack is not None:
        model = UPLOADED if uploaded else cell.model
        IMAGES.labels(model, cell.attack).inc(result.n)
        BROKEN.labels(model, cell.attack).inc(len(result.attack.broken))
