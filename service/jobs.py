"""Robustness reports as durable jobs: what the API process asks of the job database, and what a worker tells it.

One DBOS workflow is one report. Its attributes carry what is alive about it: ``cancel`` (asked for by the API),
``progress``, ``eta`` and ``error`` (told by the worker). CANCELLED is written by whoever knows that nothing computes:
by the API for a job that no worker had taken when the wish was recorded, by the worker for all others.
"""

import contextlib
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus

from service import quota
from service.errors import Code, ServiceError
from service.quota import Owner
from service.status import ENDED, STATUSES, Backlog, Status

QUEUE = "reports"
WORKFLOW = "robustness_report"
VERSION = "1"
"""Of the workflow's order of steps. A worker only takes jobs of its own version: change both together."""

IDEMPOTENCY = uuid.UUID("6f0f4f0e-6c1f-4a53-9a57-2d5c3f1f7f11")
"""Namespace in which an Idempotency-Key becomes the id of its job."""

HEARTBEAT = 1.0  # seconds between two signs of life of a worker
STALE = 10.0  # seconds after which a silent worker counts as dead
BUSY_MS = 3000  # how long a locked SQLite file is waited for

_TABLES = sa.MetaData()
WORKERS = sa.Table(
    "gauntlet_workers",
    _TABLES,
    sa.Column("executor", sa.String(64), primary_key=True),
    sa.Column("seen_at", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class Job:
    """One report job as the API tells it."""

    id: str
    status: Status
    progress: float
    eta_seconds: float | None
    created_at: str
    error: str | None
    owner: str | None  # the key that asked for it; None: none was needed
    output: Mapping[str, Any] | None

    @property
    def status_url(self) -> str:
        return f"/robustness-report/{self.id}"

    @property
    def report_url(self) -> str:
        return f"{self.status_url}/html"


def create_engine(url: str) -> sa.Engine:
    """For either database. On SQLite readers do not wait for the writer (WAL), and a lock is not waited for long."""
    engine = sa.create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def configure(connection: Any, _: Any) -> None:
            connection.isolation_level = "IMMEDIATE"
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")

    return engine


class Jobs:
    """The job database. Every method raises ServiceError ``jobs_unavailable`` while it cannot be read."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._engine = create_engine(url)
        self._submitting = threading.Lock()
        self._client = DBOSClient(
            system_database_engine=self._engine,
            serializer=DBOSPortableJSONSerializer(),
            lazy=True,
            retry_connection_errors=False,
        )

    @contextlib.contextmanager
    def _database(self) -> Iterator[None]:
        path = self._url.database if self._url.get_backend_name() == "sqlite" else None
        if path and not Path(path).exists():  # connecting would make an empty one
            raise ServiceError(Code.JOBS_UNAVAILABLE, "the job database does not exist yet: no worker has started")
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise ServiceError(Code.JOBS_UNAVAILABLE, f"the job database cannot be used: {error.orig}") from error

    def close(self) -> None:
        self._client.destroy()
        self._engine.dispose()

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

        ``pins`` are the sha256 of what it is to be measured on: a worker takes nothing else (service.laboratory).

        Raises ServiceError ``idempotency_mismatch`` for a known key with another request, ``too_busy`` over the limit,
        ``quota_exceeded`` over the owner's.
        """
        whose = "" if owner is None else f"{owner.name}\n"
        job_id = str(uuid.uuid4() if key is None else uuid.uuid5(IDEMPOTENCY, whose + key))
        with self._database():
            known = self._find(job_id) if key is not None else None
            if known is None:
                waiting = self._client.list_workflows(
                    status="ENQUEUED", name=WORKFLOW, limit=limit, load_input=False, load_output=False
                )
                if len(waiting) >= limit:
                    raise ServiceError(Code.TOO_BUSY, f"{limit} reports wait already; try again later")
                self._enqueue(job_id, request, pins, owner)
            row = self._find(job_id, load_input=True)
        assert row is not None
        assert row.input is not None
        if row.input["args"][0] != json.loads(json.dumps(request)):
            message = "this Idempotency-Key belongs to another request; use a new one"
            raise ServiceError(Code.IDEMPOTENCY_MISMATCH, message, field="Idempotency-Key")
        return _job(row), known is None

    def _enqueue(self, job_id: str, request: Mapping[str, Any], pins: Mapping[str, str], owner: Owner | None) -> None:
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": job_id,
            "app_version": VERSION,
        }
        if owner is None:
            self._client.enqueue(options, dict(request), dict(pins))
            return
        with self._submitting:  # what is stored is counted before one more is
            stored = self._client.list_workflows(name=WORKFLOW, user=owner.name, load_input=False, load_output=False)
            day = quota.reserve(self._engine, owner, len(stored))
            try:
                self._client.enqueue({**options, "authenticated_user": owner.name}, dict(request), dict(pins))
            except Exception:
                quota.refund(self._engine, owner, day)
                raise

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; it is ``cancelled`` once nothing computes for it any more. 409 if it has ended."""
        row = self._row(job_id)
        status = STATUSES[row.status]
        if status in ENDED:
            raise ServiceError(Code.REPORT_ENDED, f"the report has ended already: {status}", status=status)
        with self._database():
            self._client.update_workflow_attributes(job_id, {"cancel": True}, merge=True)
            # Read after the wish was written: a worker that takes the job from now on sees the wish first.
            row = self._row(job_id)
            if STATUSES[row.status] is Status.QUEUED:
                self._client.cancel_workflow(job_id)
        return self.get(job_id)

    def delete(self, job_id: str) -> None:
        """Forget an ended job; ServiceError ``report_active`` for another."""
        job = self.get(job_id)
        if job.status not in ENDED:
            raise ServiceError(Code.REPORT_ACTIVE, f"the report is {job.status}; cancel it first", status=job.status)
        with self._database():
            self._client.delete_workflow(job_id)

    # Reading

    def get(self, job_id: str, *, output: bool = False) -> Job:
        return _job(self._row(job_id, load_output=output))

    def _row(self, job_id: str, **load: bool) -> WorkflowStatus:
        with self._database():
            row = self._find(job_id, **load)
        if row is None:
            raise unknown_report(job_id)
        return row

    def _find(self, job_id: str, *, load_input: bool = False, load_output: bool = False) -> WorkflowStatus | None:
        rows = self._client.list_workflows(
            workflow_ids=[job_id], name=WORKFLOW, load_input=load_input, load_output=load_output
        )
        return rows[0] if rows else None

    def page(
        self, status: Status | None, limit: int, cursor: str | None, owner: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Newest first, of one owner or of all, and the cursor of the next page. New jobs do not move those pages."""
        before, skip = _parse_cursor(cursor)
        with self._database():
            rows = self._client.list_workflows(
                name=WORKFLOW,
                user=owner,
                status=None if status is None else [name for name, word in STATUSES.items() if word is status],
                end_time=None if before is None else datetime.fromtimestamp((before + 0.5) / 1000, UTC).isoformat(),
                offset=skip,
                limit=limit + 1,
                sort_desc=True,
                load_input=False,
                load_output=False,
            )
        page = rows[:limit]
        if len(rows) <= limit:
            return [_job(row) for row in page], None
        last = page[-1].created_at
        same = sum(row.created_at == last for row in page) + (skip if last == before else 0)
        return [_job(row) for row in page], f"{last}.{same}"

    def backlog(self) -> Backlog:
        """What there is to do, and what was done."""
        with self._database():
            rows = self._client.list_workflows(name=WORKFLOW, load_input=False, load_output=False)
        found = Counter(STATUSES[row.status] for row in rows)
        waiting = [row.created_at or 0 for row in rows if STATUSES[row.status] is Status.QUEUED]
        oldest = max(0.0, time.time() - min(waiting) / 1000) if waiting else 0.0
        return Backlog({status: found[status] for status in Status}, oldest)

    # Workers

    def workers(self) -> int:
        """How many are alive."""
        with self._database(), self._engine.connect() as connection:
            fresh = WORKERS.c.seen_at > time.time() - STALE
            return connection.execute(sa.select(sa.func.count()).select_from(WORKERS).where(fresh)).scalar_one()

    def migrate(self) -> None:
        """Make the tables that are ours; DBOS makes its own."""
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.commit()
        _TABLES.create_all(self._engine)
        quota.TABLES.create_all(self._engine)

    def beat(self, executor: str) -> None:
        """A worker's sign of life."""
        with self._database(), self._engine.begin() as connection:
            changed = connection.execute(
                sa.update(WORKERS).where(WORKERS.c.executor == executor).values(seen_at=time.time())
            )
            if changed.rowcount == 0:
                connection.execute(sa.insert(WORKERS).values(executor=executor, seen_at=time.time()))

    def gone(self, executor: str) -> None:
        """A worker's farewell."""
        with self._database(), self._engine.begin() as connection:
            connection.execute(sa.delete(WORKERS).where(WORKERS.c.executor == executor))

    def attributes(self, job_id: str) -> dict[str, Any]:
        """What is alive about a job: ``cancel``, ``progress``, ``eta``, ``at``, ``error``."""
        return self._row(job_id).attributes or {}

    def tell(self, job_id: str, progress: float, eta: float | None) -> None:
        """A worker's word on how far it is."""
        told = {"progress": progress, "eta": eta, "at": time.time()}
        with self._database():
            self._client.update_workflow_attributes(job_id, told, merge=True)

    def explain(self, job_id: str, reason: str) -> None:
        """A worker's word on why a job failed."""
        with self._database():
            self._client.update_workflow_attributes(job_id, {"error": reason}, merge=True)

    def acknowledge(self, job_id: str) -> None:
        """A worker's word that nothing computes for a cancelled job any more."""
        with self._database():
            self._client.cancel_workflow(job_id)


def unknown_report(job_id: str) -> ServiceError:
    """For what is not there, and for what is not for the one who asks."""
    return ServiceError(Code.UNKNOWN_REPORT, f"there is no report {job_id!r}", field="id")


def _job(row: WorkflowStatus) -> Job:
    status = STATUSES[row.status]
    told = row.attributes or {}
    created = datetime.fromtimestamp((row.created_at or 0) / 1000, UTC)
    eta = None
    if status is Status.RUNNING and told.get("eta") is not None:
        eta = max(0.0, told["eta"] - (time.time() - told["at"]))
    return Job(
        id=row.workflow_id,
        status=status,
        progress=1.0 if status is Status.SUCCEEDED else float(told.get("progress", 0.0)),
        eta_seconds=eta,
        created_at=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        error=_reason(row) if status is Status.FAILED else None,
        owner=row.authenticated_user,
        output=row.output if status is Status.SUCCEEDED else None,
    )


def _reason(row: WorkflowStatus) -> str:
    if row.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return "the worker died each time that it computed this report"
    return str((row.attributes or {}).get("error", "the report failed; the worker's log has the reason"))


def _parse_cursor(cursor: str | None) -> tuple[int | None, int]:
    if cursor is None:
        return None, 0
    try:
        before, skip = map(int, cursor.split("."))
        datetime.fromtimestamp(before / 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ServiceError(Code.INVALID, "cursor is not one that this service gave", field="cursor") from error
    return before, skip
