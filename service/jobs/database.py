"""The job database: how it is reached, the table that is ours, and what we read and write of DBOS's own.

DBOS has calls for single workflows. What counts many, or must not be torn apart, is SQL on its tables: its version is
pinned, and the tests of these statements run on both databases.
"""

import contextlib
import socket
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from service import migrations
from service.sql import Connections, in_turn

if TYPE_CHECKING:
    from dbos import DBOSClient

DBOS_SCHEMA = "dbos"
_OURS, _DBOS = sa.MetaData(), sa.MetaData(schema=DBOS_SCHEMA)

EXECUTORS = sa.Table(
    "gauntlet_executors",
    _OURS,
    sa.Column("executor", sa.Text, primary_key=True),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False),
)
"""Signs of life of the workers."""

WORKFLOWS = sa.Table(
    "workflow_status",
    _DBOS,
    sa.Column("workflow_uuid", sa.Text, primary_key=True),
    *(
        sa.Column(name, sa.Text)
        for name in (
            "status",
            "name",
            "executor_id",
            "owner_xid",
            "queue_name",
            "application_version",
            "authenticated_user",
            "parent_workflow_id",
        )
    ),
    *(
        sa.Column(name, sa.BigInteger)
        for name in ("created_at", "updated_at", "started_at_epoch_ms", "completed_at", "recovery_attempts")
    ),
    sa.Column("attributes", sa.JSON().with_variant(JSONB(), "postgresql")),
)
STEPS, INPUTS, OUTPUTS = (
    sa.Table(name, _DBOS, sa.Column("workflow_uuid", sa.Text))
    for name in ("operation_outputs", "workflow_input", "workflow_output")
)

ENQUEUED = WORKFLOWS.c.status == sa.literal_column("'ENQUEUED'")
PENDING = WORKFLOWS.c.status == sa.literal_column("'PENDING'")  # literal: SQLite finds its partial index by the text


@cache
def machine() -> str:
    """What all processes that may share an SQLite file have in common: one kernel, whatever containers they are in."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else socket.gethostname()


class Database(Connections):
    """What is done within ``using`` or ``begin`` raises ServiceError ``jobs_unavailable``."""

    def __init__(self, url: str, patience: float | None = None) -> None:
        super().__init__(url, patience)
        self._ours = (
            self.engine.execution_options(schema_translate_map={DBOS_SCHEMA: None}) if self.sqlite else self.engine
        )

    @cached_property
    def client(self) -> "DBOSClient":
        """DBOS's own calls. What looks at the state of things alone does without."""
        from dbos import DBOSClient, DBOSPortableJSONSerializer  # noqa: PLC0415  a second of every start, 30 MB

        return DBOSClient(
            system_database_engine=self.engine,
            serializer=DBOSPortableJSONSerializer(),
            lazy=True,
            retry_connection_errors=False,
        )

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.destroy()
        super().close()

    @contextlib.contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction in which the tables above have their names."""
        with self.using(), self._ours.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def begin_in_turn(self) -> Iterator[sa.Connection]:
        """As ``begin``, one after the other, whichever process asks: what is read in it holds until it ends."""
        with self.begin() as connection:
            in_turn(connection)
            yield connection

    @property
    def now(self) -> sa.ColumnElement[int]:
        """Milliseconds by the database's clock: hosts need not agree on theirs."""
        if self.sqlite:
            return sa.cast((sa.func.julianday("now") - 2440587.5) * 86_400_000, sa.BigInteger)
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)

    def migrate(self) -> None:
        """Make the tables that are ours, or bring them to this release; DBOS makes its own."""
        migrations.migrate(self)
