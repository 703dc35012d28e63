"""SQL databases, SQLite and PostgreSQL: how they are reached, and what is said where they cannot be used."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import sqlalchemy.orm

from service.errors import Code, ServiceError
from service.observability.logs import LOGGER
from service.settings import SettingsError

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


class Connections:
    """To the job database. What is done within ``using`` raises ServiceError ``jobs_unavailable``."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.sqlite = self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        self.engine.dispose()

    @property
    def exists(self) -> bool:
        """Whether there is a file: connecting would make an empty one."""
        path = self.engine.url.database if self.sqlite else None
        return not path or Path(path).exists()

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        if not self.exists:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "the job database does not exist yet: no worker has started")
        try:
            yield
        except sa.exc.ProgrammingError as error:
            raise unavailable("the job database has no tables yet, no worker has started", error) from error
        except sa.exc.DBAPIError as error:
            raise unavailable("the job database cannot be used", error) from error
        except sa.exc.TimeoutError as error:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "all connections to the job database are in use") from error


def in_turn(connection: sa.Connection) -> None:
    """Wait for the transactions that said so before: what this one reads holds until it ends.

    On SQLite writers wait for each other anyway, but a transaction that reads first begins to write too late.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(OURS)))
        return
    driver = connection.connection.driver_connection
    assert driver is not None
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def driver_message(error: sa.exc.DBAPIError) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error.orig).split())


def unavailable(message: str, error: sa.exc.DBAPIError) -> ServiceError:
    """For whoever asked. Only the log has the driver's words, which name hosts and users."""
    LOGGER.warning("%s: %s", message, driver_message(error))
    return ServiceError(Code.JOBS_UNAVAILABLE, f"{message}; the service's log says why")
