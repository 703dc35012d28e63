"""Robustness reports as durable jobs: what the API process asks of the job database, and what a worker tells it.

One DBOS workflow is one report, its children are the shards. Attributes carry what is alive: of a report ``cancel``
(asked for by the API), ``progress``, ``eta``, ``at``, ``sound``, ``error`` and ``failed`` (told by the worker that has
the report), of a shard ``done`` and ``error`` (told by the worker that computes it). CANCELLED is written by whoever
knows that nothing computes: by the API for a job that no worker had begun when the wish was recorded, by the worker for
all others.
"""

import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gauntlet.text import cleaned, storable
from service.auth import quota
from service.auth.quota import Owner
from service.errors import Code, ServiceError
from service.jobs.database import ENQUEUED, EXECUTORS, WORKFLOWS, Database
from service.jobs.job import Job, read
from service.jobs.status import ENDED, STATUSES, Backlog, Part, Status

if TYPE_CHECKING:
    from dbos import DBOSClient, EnqueueOptions, WorkflowStatus

QUEUE, SHARDS = "reports", "shards"
WORKFLOW, SHARD = "robustness_report", "report_shard"
VERSION = "4"
"""Of the order of a workflow's steps, and of what a shard returns. A worker only takes jobs of its own version: change
both together, and name the former in OLDER."""

OLDER = ("1", "2", "3")
"""Versions whose waiting jobs a worker adopts: the request has stayed what it was."""

IDEMPOTENCY = uuid.UUID("6f0f4f0e-6c1f-4a53-9a57-2d5c3f1f7f11")
"""Namespace in which an Idempotency-Key becomes the id of its job."""

FRESH = 10.0  # seconds for which a worker's sign of life is one


class Jobs:
    """The job database. Every method raises ServiceError ``jobs_unavailable`` while it cannot be read.

    ``patience``: the seconds in which it is to answer a statement; None: whenever it does.
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self.database = Database(url, patience)

    @property
    def _client(self) -> "DBOSClient":
        return self.database.client

    def close(self) -> None:
        self.database.close()

    # Asking for work

    def submit(
        self,
        request: Mapping[str, Any],
        pins: Mapping[str, str],
        key: str | None,
        limit: int,
        owner: Owner | None = None,
    ) -> tuple[Job, bool]:
        """Enqueue a report, or find the one that the owner's same Idempotency-Key has; says whether it is new.

        ``pins`` are the sha256 of what it is to be measured on: a worker takes no other (service.jobs.report_inputs).

        Raises ServiceError ``idempotency_mismatch`` for a known key with another request, ``too_busy`` over the limit,
        ``quota_exceeded`` over the owner's.
        """
        whose = "" if owner is None else f"{owner.name}\n"
        job_id = str(uuid.uuid4() if key is None else uuid.uuid5(IDEMPOTENCY, whose + key))
        _ = self._client  # imported before anybody waits for this turn
        with self.database.begin_in_turn() as connection:  # whoever asks with the same key finds this one
            new = not _count(connection, WORKFLOWS.c.workflow_uuid == job_id)
            if new:
                if _count(connection, ENQUEUED) >= limit:
                    raise ServiceError(Code.TOO_BUSY, f"{limit} reports wait already; try again later")
                self._enqueue(connection, job_id, request, pins, owner)
        job = self.get(job_id)
        if _given(job.request) != _given(json.loads(json.dumps(request))):
            message = "this Idempotency-Key belongs to another request; use a new one"
            raise ServiceError(Code.IDEMPOTENCY_MISMATCH, message, field="Idempotency-Key")
        return job, new

    def _enqueue(
        self,
        connection: sa.Connection,
        job_id: str,
        request: Mapping[str, Any],
        pins: Mapping[str, str],
        owner: Owner | None,
    ) -> None:
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": job_id,
            "app_version": VERSION,
        }
        if owner is not None:
            quota.reserve(connection, owner, _count(connection, WORKFLOWS.c.authenticated_user == owner.name))
            options["authenticated_user"] = owner.name
        self._client.enqueue_in_transaction(connection, options, dict(request), dict(pins))

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; it is ``cancelled`` once nothing computes for it any more. 409 if it has ended."""
        row = self._row(job_id)
        status = STATUSES[row.status]
        if status in ENDED:
            raise ServiceError(Code.REPORT_ENDED, f"the report has ended already: {status}", status=status)
        with self.database.using():
            self._client.update_workflow_attributes(job_id, {"cancel": True}, merge=True)
            # Read after the wish was written: a worker that takes the job from now on sees the wish first.
            row = self._row(job_id)
            if STATUSES[row.status] is Status.QUEUED and "progress" not in (row.attributes or {}):
                self._client.cancel_workflow(job_id)
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Forget an ended job; ServiceError ``report_active`` for another."""
        job = self.get(job_id)
        if job.status not in ENDED:
            raise ServiceError(Code.REPORT_ACTIVE, f"the report is {job.status}; cancel it first", status=job.status)
        with self.database.using():
            self._client.delete_workflow(job_id, delete_children=True)

    # Reading

    def in_use(self, pin: str) -> bool:
        """Whether a report that has not ended is to be measured on this (see ``submit``)."""
        going = [name for name, word in STATUSES.items() if word not in ENDED]
        with self.database.using():
            rows = self._client.list_workflows(name=WORKFLOW, status=going, load_input=True, load_output=False)
        return any(row.input is not None and pin in row.input["args"][1] for row in rows)

    def check_unused(self, pin: str) -> None:
        """Raises ServiceError ``in_use`` if a report that has not ended needs it."""
        if self.in_use(pin):
            message = f"a report that has not ended needs {pin.partition('/')[2]}; wait for it or cancel it"
            raise ServiceError(Code.IN_USE, message, field="name")

    def get(self, job_id: str, *, output: bool = False) -> Job:
        return read(self._row(job_id, load_output=output))

    def _row(self, job_id: str, *, load_output: bool = False) -> "WorkflowStatus":
        with self.database.using():
            row = self._find(job_id, load_output=load_output)
        if row is None:
            raise unknown_report(job_id)
        return row

    def _find(self, job_id: str, *, load_output: bool = False) -> "WorkflowStatus | None":
        if not storable(job_id):
            return None
        rows = self._client.list_workflows(workflow_ids=[job_id], name=WORKFLOW, load_output=load_output)
        return rows[0] if rows else None

    def page(
        self, status: Status | None, limit: int, cursor: str | None, owner: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Newest first, of one owner or of all, and the cursor of the next page. New jobs do not move those pages."""
        before, skip = _parse_cursor(cursor)
        with self.database.using():
            rows = self._client.list_workflows(
                name=WORKFLOW,
                user=owner,
                status=None if status is None else [name for name, word in STATUSES.items() if word is status],
                end_time=None if before is None else datetime.fromtimestamp((before + 0.5) / 1000, UTC).isoformat(),
                offset=skip,
                limit=limit + 1,
                sort_desc=True,
                load_output=False,
            )
        page = rows[:limit]
        if len(rows) <= limit:
            return [read(row) for row in page], None
        last = page[-1].created_at
        same = sum(row.created_at == last for row in page) + (skip if last == before else 0)
        return [read(row) for row in page], f"{last}.{same}"

    def backlog(self) -> Backlog:
        """What there is to do, and what was done."""
        query = (
            sa.select(WORKFLOWS.c.status, sa.func.count(), sa.func.min(WORKFLOWS.c.created_at))
            .where(WORKFLOWS.c.name == WORKFLOW)
            .group_by(WORKFLOWS.c.status)
        )
        counts, first = dict.fromkeys(Status, 0), None
        with self.database.begin() as connection:
            for word, count, oldest in connection.execute(query):
                counts[STATUSES[word]] += count
                if STATUSES[word] is Status.QUEUED:
                    first = min(oldest, first or oldest)
        return Backlog(counts, 0.0 if first is None else max(0.0, time.time() - first / 1000))

    def workers(self) -> int:
        """How many are alive."""
        with self.database.begin() as connection:
            alive = EXECUTORS.c.seen_ms > self.database.now - FRESH * 1000
            return connection.execute(sa.select(sa.func.count()).select_from(EXECUTORS).where(alive)).scalar_one()

    # What workers tell and ask about a job

    def attributes(self, job_id: str) -> dict[str, Any]:
        """What is alive about a report."""
        return self._row(job_id).attributes or {}

    def set_attributes(self, job_id: str, **attributes: Any) -> None:
        """Of a report or of a shard; the others stay. A reason may quote what somebody sent."""
        fit = {name: cleaned(value) if isinstance(value, str) else value for name, value in attributes.items()}
        with self.database.using():
            self._client.update_workflow_attributes(job_id, fit, merge=True)

    def wanted(self, job_id: str) -> bool:
        """Whether shards of the report are still to be computed."""
        query = sa.select(WORKFLOWS.c.status, WORKFLOWS.c.attributes).where(WORKFLOWS.c.workflow_uuid == job_id)
        with self.database.begin() as connection:
            row = connection.execute(query).one_or_none()
        attributes = (row and row.attributes) or {}
        return (
            row is not None
            and STATUSES[row.status] not in ENDED
            and not (attributes.get("cancel") or attributes.get("failed"))
        )

    def parts(self, job_id: str) -> dict[str, Part]:
        """Where the shards of a report stand, by their ids."""
        query = sa.select(WORKFLOWS.c.workflow_uuid, WORKFLOWS.c.status, WORKFLOWS.c.attributes).where(
            WORKFLOWS.c.parent_workflow_id == job_id, WORKFLOWS.c.name == SHARD
        )
        with self.database.begin() as connection:
            return {row.workflow_uuid: Part(row.status, row.attributes or {}) for row in connection.execute(query)}

    def results(self, job_id: str) -> dict[str, Any]:
        """What the shards of a report returned, by their ids."""
        with self.database.using():
            rows = self._client.list_workflows(name=SHARD, parent_workflow_id=job_id, load_input=False)
        return {row.workflow_id: row.output for row in rows}

    def cancel_waiting_shards(self, job_id: str) -> None:
        """Take the shards of a report that nobody has begun out of the queue."""
        waiting = sa.update(WORKFLOWS).where(
            WORKFLOWS.c.parent_workflow_id == job_id, WORKFLOWS.c.name == SHARD, ENQUEUED
        )
        with self.database.begin() as connection:
            connection.execute(waiting.values(status="CANCELLED", queue_name=None, updated_at=self.database.now))

    def confirm_cancelled(self, job_id: str) -> None:
        """A worker's word that nothing computes for a cancelled job any more."""
        with self.database.using():
            self._client.cancel_workflow(job_id)


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    """How many reports there are of that kind."""
    reports = sa.select(sa.func.count()).select_from(WORKFLOWS).where(WORKFLOWS.c.name == WORKFLOW, condition)
    return connection.execute(reports).scalar_one()


def _given(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request without what is left open: a request from an older release says nothing of what that did not know."""
    return {name: value for name, value in request.items() if value is not None}


def unknown_report(job_id: str) -> ServiceError:
    """For what is not there, and for what is not for the one who asks."""
    return ServiceError(Code.UNKNOWN_REPORT, f"there is no report {job_id!r}", field="id")


def _parse_cursor(cursor: str | None) -> tuple[int | None, int]:
    """Milliseconds and a number of reports, as ReportQuery lets them pass."""
    if cursor is None:
        return None, 0
    before, skip = map(int, cursor.split("."))
    return before, skip
