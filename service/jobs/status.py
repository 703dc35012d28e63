"""Where a report stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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


@dataclass(frozen=True)
class Part:
    """One shard of a report: the word of DBOS, and the attributes that its worker has written."""

    word: str
    attributes: Mapping[str, Any]

    @property
    def active(self) -> bool:
        return STATUSES[self.word] not in ENDED

    @property
    def failure(self) -> str | None:
        """Why it failed, if it did."""
        if self.word == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
            return "the worker died each time that it computed this"
        if STATUSES[self.word] is Status.FAILED:
            return str(self.attributes.get("error", "a part of the report failed; the worker's log has the reason"))
        return None

    def done(self, cost: float) -> float:
        """How much of its cost is behind it."""
        if self.word == "SUCCESS":
            return cost
        return float(self.attributes.get("done", 0.0)) if self.word == "PENDING" else 0.0
