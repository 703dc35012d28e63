"""One report job, read from the workflow that is it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from service.jobs.status import STATUSES, Status

if TYPE_CHECKING:
    from dbos import WorkflowStatus


@dataclass(frozen=True)
class Job:
    """One report job as the API tells it."""

    id: str
    request: Mapping[str, Any]
    status: Status
    progress: float
    eta_seconds: float | None
    created_at: str
    error: str | None
    sound: bool | None  # whether every check passed; None: it is not known
    owner: str | None  # the key that asked for it; None: none was needed
    output: Mapping[str, Any] | None

    @property
    def status_url(self) -> str:
        return f"/robustness-report/{self.id}"

    @property
    def report_url(self) -> str:
        return f"{self.status_url}/html"


def read(row: "WorkflowStatus") -> Job:
    """Of a workflow with its input, and with its output if that is wanted."""
    status = STATUSES[row.status]
    attributes = row.attributes or {}
    assert row.input is not None
    created = datetime.fromtimestamp((row.created_at or 0) / 1000, UTC)
    eta = None
    if status is Status.RUNNING and attributes.get("eta") is not None:
        eta = max(0.0, attributes["eta"] - (time.time() - attributes["at"]))
    return Job(
        id=row.workflow_id,
        request=row.input["args"][0],
        status=status,
        progress=1.0 if status is Status.SUCCEEDED else float(attributes.get("progress", 0.0)),
        eta_seconds=eta,
        created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        error=_reason(row) if status is Status.FAILED else None,
        sound=attributes.get("sound") if status is Status.SUCCEEDED else None,
        owner=row.authenticated_user,
        output=row.output if status is Status.SUCCEEDED else None,
    )


def _reason(row: "WorkflowStatus") -> str:
    if row.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return "the worker died each time that it computed this report"
    return str((row.attributes or {}).get("error", "the report failed; the worker's log has the reason"))
