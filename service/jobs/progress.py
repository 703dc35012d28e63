"""How a report's workflow follows its shards: tells how far they are, ends all if one fails or it is cancelled."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from gauntlet.errors import Cancelled, GauntletError
from service.errors import Code, ServiceError
from service.jobs.queue import Jobs

T = TypeVar("T")

LOOK = 0.5  # seconds between two looks at the shards
ALMOST = 0.99  # 1 is for the report that is there


class ReportFailed(GauntletError):
    """A shard failed, and its report with it."""


def wait_for_database(ask: Callable[[], T]) -> T:
    """The answer of the job database, however long it is away: that costs no work."""
    while True:
        try:
            return ask()
        except ServiceError as error:
            if error.code is not Code.JOBS_UNAVAILABLE:
                raise
            time.sleep(LOOK)


class Pace:
    """Progress that never falls, and the seconds still to go if it goes on as it did since the first look."""

    def __init__(self, total: float, floor: float) -> None:
        self._total, self._floor = total, floor
        self._first: tuple[float, float] | None = None

    def at(self, done: float, now: float) -> tuple[float, float | None]:
        self._floor = max(self._floor, min(done / self._total, ALMOST))
        self._first = self._first or (done, now)
        gained, took = done - self._first[0], now - self._first[1]
        return self._floor, took * (self._total - done) / gained if gained > 0 else None


def begin(jobs: Jobs, job_id: str) -> float:
    """Tell that the report is under way, and return its progress so far. Raises Cancelled if there is nothing to do."""
    attributes = wait_for_database(lambda: jobs.attributes(job_id))
    if attributes.get("cancel") and not wait_for_database(lambda: jobs.parts(job_id)):
        raise Cancelled("the report was cancelled before it began")
    progress = float(attributes.get("progress", 0.0))
    wait_for_database(lambda: jobs.set_attributes(job_id, progress=progress))
    return progress


def follow(jobs: Jobs, job_id: str, costs: Mapping[str, float], floor: float) -> None:
    """Return once every shard, of these costs by their ids, has succeeded.

    Raises, when nothing computes for the report any more, Cancelled if that was asked for and ReportFailed if a shard
    failed.
    """
    pace = Pace(sum(costs.values()), floor)
    while True:
        attributes, parts = (
            wait_for_database(lambda: jobs.attributes(job_id)),
            wait_for_database(lambda: jobs.parts(job_id)),
        )
        failures = [attributes.get("failed"), *(parts[shard_id].failure for shard_id in costs)]
        failure = next(filter(None, failures), None)
        over = not any(part.active for part in parts.values())
        if over and attributes.get("cancel"):
            raise Cancelled("the report was cancelled")
        if over and failure:
            raise ReportFailed(failure)
        if over:
            return
        if failure and not attributes.get("failed"):
            wait_for_database(lambda: jobs.set_attributes(job_id, failed=failure))  # noqa: B023  called at once
        if failure or attributes.get("cancel"):
            wait_for_database(lambda: jobs.cancel_waiting_shards(job_id))
        done = sum(parts[shard_id].done(cost) for shard_id, cost in costs.items())
        progress, eta = pace.at(done, time.monotonic())
        wait_for_database(lambda: jobs.set_attributes(job_id, progress=progress, eta=eta, at=time.time()))  # noqa: B023  called at once
        time.sleep(LOOK)
