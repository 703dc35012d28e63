"""SQL databases, SQLite and PostgreSQL: how they are reached, and what is said where they cannot be used."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.orm

from service.errors import Code, ServiceError
from service.observability.logs import LOGGER
from service.settings import SettingsError

BUSY_MS = 3000  # how long a locked SQLite file is waited for
CONNECT_S = 5  # how long PostgreSQL is waited for
ANSWER_S = 4.0  # how long, while somebody waits for an answer, for each statement, and for a connection that is free
TURN_S = 30.0  # how long then for one's turn among writers, and for bytes on their way
SILENT = {
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
"""When a PostgreSQL that says nothing at all any more, because a host or network is gone, counts as away."""
NO_RIGHT = "42501"  # PostgreSQL's insufficient_privilege
OURS = 0x6761756E  # the advisory lock of what must not happen twice at once


def create_engine(url: str, patience: float | None = None) -> sa.Engine:
    """For either database. On SQLite readers do not wait for the writer (WAL), and a lock is not waited for long.

    ``patience``: the seconds in which PostgreSQL is to answer a statement; None: whenever it does.

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
            driven = parsed.set(drivername="postgresql+psycopg")
            if patience is None:
                return sa.create_engine(driven, pool_pre_ping=True, connect_args=left)
            engine = sa.create_engine(driven, pool_timeout=patience, connect_args=left)
            _hurry(engine, patience)
            return engine
        case "sqlite":
            engine = sa.create_engine(url, pool_pre_ping=True)

            @sa.event.listens_for(engine, "connect")
            def configure(connection: Any, _: Any) -> None:
                connection.isolation_level = "IMMEDIATE"
                connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")

            return engine
    # Its words may hold a password: they are not repeated.
    raise SettingsError("GAUNTLET_DATABASE_URL must begin with postgresql:// or sqlite:///")


def _hurry(engine: sa.Engine, patience: float) -> None:
    """Let connections to PostgreSQL end that do not answer in time."""
    from service import postgresql  # noqa: PLC0415  SQLite needs no driver of PostgreSQL

    silence = postgresql.silence_of(engine.url.render_as_string(hide_password=False), patience)

    @sa.event.listens_for(engine, "do_connect")
    def connect(_: object, __: object, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        return postgresql.connect(silence, patience, TURN_S, *args, **options)

    @sa.event.listens_for(engine, "checkout")
    def ping(connection: Any, _: object, __: object) -> None:
        if not postgresql.ping(silence, connection):
            raise sa.exc.DisconnectionError


class Connections:
    """To the job database. What is done within ``using`` raises ServiceError ``jobs_unavailable``.

    ``patience``: as of ``create_engine``.
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self.engine = create_engine(url, patience)
        self.sqlite = self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        self.engine.dispose()

    @property
    def exists(self) -> bool:
        """Whether there is a file: connecting would make an empty one."""
        path = self.engine.url.database if self.sqlite else None
        return not path or Path(path).exists()

    @contextlib.contextmanager
    def using(self, *, new: bool = False) -> Iterator[None]:
        """``new``: a file that is not there is made."""
        if not new and not self.exists:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "the job database does not exist yet: no worker has started")
        try:
            yield
        except sa.exc.ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) == NO_RIGHT:
                raise unavailable("the job database does not let the service do this", error) from error
            message = "the job database has no tables of this release yet, no worker has started"
            raise unavailable(message, error) from error
        except sa.exc.DBAPIError as error:
            raise unavailable("the job database cannot be used", error) from error
        except sa.exc.TimeoutError as error:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "all connections to the job database are in use") from error


def write_ahead(execute: Callable[[str], object], seconds: float) -> None:
    """Let readers of an SQLite file not wait for its writer. ``execute`` runs a statement.

    SQLite fails at once, whatever its time-out, where another process does the same at this moment: it is tried again
    for so many ``seconds``, and then its error is raised.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            execute("PRAGMA journal_mode=WAL")
        except (sqlite3.OperationalError, sa.exc.OperationalError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def in_turn(connection: sa.Connection) -> None:
    """Wait for the transactions that said so before: what this one reads holds until it ends.

    On SQLite writers wait for each other anyway, but a transaction that reads first begins to write too late.
    """
    if connection.dialect.name == "postgresql":
        with patiently(connection):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(OURS)))
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextlib.contextmanager
def patiently(connection: sa.Connection) -> Iterator[None]:
    """Statements that may take long where they are waited for only so long."""
    driver: Any = connection.connection.driver_connection
    usual = getattr(driver, "patience", None)
    if usual is None:
        yield
        return
    driver.patience = max(usual, TURN_S)
    try:
        yield
    finally:
        driver.patience = usual


def driver_message(error: sa.exc.DBAPIError) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error.orig).split())


def unavailable(message: str, error: sa.exc.DBAPIError) -> ServiceError:
    """For whoever asked. Only the log has the driver's words, which name hosts and users."""
    LOGGER.warning("%s: %s", message, driver_message(error))
    return ServiceError(Code.JOBS_UNAVAILABLE, f"{message}; the service's log says why")
