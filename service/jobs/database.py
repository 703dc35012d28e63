"""The job database: how it is reached, the table that is ours, and what we read and write of DBOS's own.

DBOS has calls for single workflows. What counts many, or must not be torn apart, is SQL on its tables: its version is
pinned, and the tests of these statements run on both databases.
"""

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy.dialects.postgresql import JSONB

from service.access import quota
from service.errors import Code, ServiceError
from service.settings import SettingsError
from service.watch.logs import LOGGER

BUSY_MS = 3000  # how long a locked SQLite file is waited for
CONNECT_S = 5  # how long PostgreSQL is waited for
SILENT = {
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
"""When a PostgreSQL that says nothing at all any more, because a host or network is gone, counts as away."""
OURS = 0x6761756E  # the advisory lock of what must not happen twice at once

_OURS, _DBOS = sa.MetaData(), sa.MetaData(schema="dbos")

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


def create_engine(url: str) -> sa.Engine:
    """For either database. On SQLite readers do not wait for the writer (WAL), and a lock is not waited for long.

    Raises SettingsError for any other.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        parsed = None
    match parsed.get_backend_name() if parsed else None:
        case "postgresql":
            assert parsed is not None
            limits = {"connect_timeout": CONNECT_S, **SILENT}
            left = {name: value for name, value in limits.items() if name not in parsed.query}  # the URL's own count
            return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=left)
        case "sqlite":
            engine = sa.create_engine(url, pool_pre_ping=True)

            @sa.event.listens_for(engine, "connect")
            def configure(connection: Any, _: Any) -> None:
                connection.isolation_level = "IMMEDIATE"
                connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")

            return engine
    # Its words may hold a password: they are not repeated.
    raise SettingsError("GAUNTLET_DATABASE_URL must begin with postgresql:// or sqlite:///")


def create(connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """Make those that are missing. Several processes may, at the same time: ``create_all`` looks first, then makes."""
    in_turn(connection)  # PostgreSQL's IF NOT EXISTS fails too where another makes the same
    for table in tables:
        connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))


def in_turn(connection: sa.Connection) -> None:
    """Wait for the transactions on PostgreSQL that said so before. On SQLite all writers do."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(OURS)))


def told(error: sa.exc.DBAPIError) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error.orig).split())


def unavailable(message: str, error: sa.exc.DBAPIError) -> ServiceError:
    """For whoever asked. Only the log has the driver's words, which name hosts and users."""
    LOGGER.warning("%s: %s", message, told(error))
    return ServiceError(Code.JOBS_UNAVAILABLE, f"{message}; the service's log says why")


class Database:
    """Connections to it. What is done within ``using`` or ``begin`` raises ServiceError ``jobs_unavailable``."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.sqlite = self.engine.dialect.name == "sqlite"
        self._ours = self.engine.execution_options(schema_translate_map={"dbos": None}) if self.sqlite else self.engine
        self.client = DBOSClient(
            system_database_engine=self.engine,
            serializer=DBOSPortableJSONSerializer(),
            lazy=True,
            retry_connection_errors=False,
        )

    def close(self) -> None:
        self.client.destroy()
        self.engine.dispose()

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        path = self.engine.url.database if self.sqlite else None
        if path and not Path(path).exists():  # connecting would make an empty one
            raise ServiceError(Code.JOBS_UNAVAILABLE, "the job database does not exist yet: no worker has started")
        try:
            yield
        except sa.exc.ProgrammingError as error:
            raise unavailable("the job database has no tables yet, no worker has started", error) from error
        except sa.exc.DBAPIError as error:
            raise unavailable("the job database cannot be used", error) from error
        except sa.exc.TimeoutError as error:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "all connections to the job database are in use") from error

    @contextlib.contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction in which the tables above have their names."""
        with self.using(), self._ours.begin() as connection:
            yield connection

    @property
    def now(self) -> sa.ColumnElement[int]:
        """Milliseconds by the database's clock: hosts need not agree on theirs."""
        if self.sqlite:
            return sa.cast((sa.func.julianday("now") - 2440587.5) * 86_400_000, sa.BigInteger)
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)

    def migrate(self) -> None:
        """Make the tables that are ours; DBOS makes its own."""
        if self.sqlite:
            self._write_ahead()
        with self.begin() as connection:
            create(connection, [EXECUTORS, *quota.TABLES.sorted_tables])

    def _write_ahead(self) -> None:
        """SQLite fails at once, whatever ``busy_timeout`` says, where somebody else has just opened the file."""
        deadline = time.monotonic() + BUSY_MS / 1000
        while True:
            try:
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
