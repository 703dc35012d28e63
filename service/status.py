"""Where a report stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """As the API tells it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


STATUSES: Mapping[str, Status] = {
    "DELAYED": Status.QUEUED,
    "ENQUEUED": Status.QUEUED,
    "PENDING": Status.RUNNING,
    "SUCCESS": Status.SUCCEEDED,
    "ERROR": Status.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": Status.FAILED,
    "CANCELLED": Status.CANCELLED,
}
"""By the word of DBOS."""

ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


@dataclass(frozen=True)
class Backlog:
    """How many reports there are of each status, and for how many seconds the first of the queued has waited."""

    counts: Mapping[Status, int]
    oldest: float
