"""The workers as the job database knows them: signs of life, and who goes on with the work of a dead one."""

import socket
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from service.auth.quota import ANYBODY
from service.jobs.database import ENQUEUED, EXECUTORS, INPUTS, OUTPUTS, PENDING, STEPS, WORKFLOWS, Database, machine
from service.jobs.queue import FRESH, OLDER, QUEUE, SHARD, VERSION, WORKFLOW
from service.jobs.status import ENDED, STATUSES
from service.settings import SettingsError

FORGOTTEN = 86_400  # seconds after which a silent worker is no longer listed
BATCH = 50  # reports deleted at once
DAY = 86_400_000  # milliseconds

_OWN = WORKFLOWS.c.name.in_([WORKFLOW, SHARD])


class WorkerRegistry:
    """Every method raises ServiceError ``jobs_unavailable`` while the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, executor: str | None) -> None:
        """Refuse what another host makes impossible: SQLite at all, this name for a worker. Raises SettingsError."""
        alive = EXECUTORS.c.seen_ms > self._database.now - FRESH * 1000
        query = sa.select(EXECUTORS.c.executor, EXECUTORS.c.host).where(alive, EXECUTORS.c.machine != machine())
        with self._database.begin() as connection:
            others = {row.executor: row.host for row in connection.execute(query)}
        if others and self._database.sqlite:
            raise SettingsError(
                f"the job database {self._database.engine.url.database} is in use by a worker on host "
                f"{min(others.values())}; SQLite serves one host: set GAUNTLET_DATABASE_URL=postgresql://... on all"
            )
        if executor in others:
            raise SettingsError(f"GAUNTLET_EXECUTOR={executor}: a worker on host {others[executor]} has this name")

    def heartbeat(self, executor: str) -> None:
        """A worker's sign of life."""
        life = {"seen_ms": self._database.now, "machine": machine(), "host": socket.gethostname()}
        with self._database.begin() as connection:
            own = sa.update(EXECUTORS).where(EXECUTORS.c.executor == executor)
            if connection.execute(own.values(life)).rowcount == 0:
                connection.execute(sa.insert(EXECUTORS).values(executor=executor, **life))
            old = EXECUTORS.c.seen_ms < self._database.now - FORGOTTEN * 1000
            connection.execute(sa.delete(EXECUTORS).where(old))

    def leave(self, executor: str) -> int:
        """A worker's farewell. What it was computing is another's at once, and counts as no failure of the report."""
        attempts = WORKFLOWS.c.recovery_attempts - 1
        with self._database.begin() as connection:
            given = connection.execute(_reenqueue(executor, self._database.now, recovery_attempts=attempts)).rowcount
            connection.execute(sa.delete(EXECUTORS).where(EXECUTORS.c.executor == executor))
        return given

    def holders(self) -> Mapping[str, int | None]:
        """The workers that have taken work which has not ended, each with its last sign of life if there was one."""
        query = (
            sa.select(WORKFLOWS.c.executor_id, EXECUTORS.c.seen_ms)
            .distinct()
            .select_from(WORKFLOWS.outerjoin(EXECUTORS, EXECUTORS.c.executor == WORKFLOWS.c.executor_id))
            .where(PENDING, _OWN)
        )
        with self._database.begin() as connection:
            return {row.executor_id: row.seen_ms for row in connection.execute(query)}

    def take_over(self, executor: str) -> int:
        """Put a dead worker's work back into the queue, and say how much. Asked for twice it finds nothing.

        Should the worker live after all, DBOS takes no result from it any more: the work has another owner.
        """
        with self._database.begin() as connection:
            taken = connection.execute(_reenqueue(executor, self._database.now)).rowcount
            connection.execute(sa.delete(EXECUTORS).where(EXECUTORS.c.executor == executor))
        return taken

    def adopt(self) -> int:
        """Make the waiting reports of earlier releases ours, and say how many.

        Their steps and shards were others: what had been computed of them is computed again.
        """
        waiting = sa.and_(
            WORKFLOWS.c.name == WORKFLOW,
            ENQUEUED,
            WORKFLOWS.c.application_version.in_(OLDER),
        )
        with self._database.begin() as connection:
            ours = (
                sa.update(WORKFLOWS)
                .where(waiting)
                .values(application_version=VERSION, queue_name=QUEUE, queue_partition_key=_requester())
                .returning(WORKFLOWS.c.workflow_uuid)
            )
            found = connection.execute(ours).scalars().all()
            if not found:
                return 0
            children = sa.select(WORKFLOWS.c.workflow_uuid).where(WORKFLOWS.c.parent_workflow_id.in_(found))
            gone = list(connection.execute(children).scalars())
            for table, ids in ((STEPS, [*found, *gone]), (INPUTS, gone), (OUTPUTS, gone), (WORKFLOWS, gone)):
                connection.execute(sa.delete(table).where(table.c.workflow_uuid.in_(ids)))
        return len(found)

    def expire(self, days: float) -> int:
        """Delete the reports that ended so long ago, with all that was kept for them, and say how many."""
        old = (
            sa.select(WORKFLOWS.c.workflow_uuid)
            .where(
                WORKFLOWS.c.name == WORKFLOW,
                WORKFLOWS.c.status.in_([name for name, status in STATUSES.items() if status in ENDED]),
                sa.func.coalesce(WORKFLOWS.c.completed_at, WORKFLOWS.c.updated_at) < self._database.now - days * DAY,
            )
            .limit(BATCH)
        )
        deleted = 0
        while True:
            with self._database.begin() as connection:
                found = list(connection.execute(old).scalars())
            if not found:
                return deleted
            with self._database.using():
                self._database.client.delete_workflows(found, delete_children=True)
            deleted += len(found)


def _requester() -> sa.ColumnElement[str]:
    """Of a report of an earlier release, which knew only its owner."""
    owner = sa.literal("key ") + WORKFLOWS.c.authenticated_user
    return sa.func.coalesce(WORKFLOWS.c.queue_partition_key, owner, ANYBODY.name)


def _reenqueue(executor: str, now: sa.ColumnElement[int], **more: Any) -> sa.Update:
    """What DBOS does to recover the work of an executor, whatever version of the program the work is of."""
    return (
        sa.update(WORKFLOWS)
        .where(PENDING, _OWN, WORKFLOWS.c.executor_id == executor)
        .values(
            status="ENQUEUED",
            owner_xid=None,
            started_at_epoch_ms=None,
            updated_at=now,
            queue_name=sa.func.coalesce(WORKFLOWS.c.queue_name, QUEUE),
            **more,
        )
    )
