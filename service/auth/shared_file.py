"""An SQLite file in which the processes of a service count together. What is in it is not worth keeping."""

import contextlib
import sqlite3
import time
from pathlib import Path

BUSY = 2.0  # seconds that a process waits for another's statement, which takes microseconds


def connect(path: Path | None, schema: str) -> sqlite3.Connection:
    """The file, or without a path memory, with this table. Each statement is a transaction."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    made = sqlite3.connect(path or ":memory:", timeout=BUSY, isolation_level=None, check_same_thread=False)
    _write_ahead(made)
    made.execute("PRAGMA synchronous=OFF")  # what is lost with the machine counted for running processes only
    made.execute(schema)
    return made


def _write_ahead(database: sqlite3.Connection) -> None:
    """SQLite fails at once, whatever its timeout, where another process does the same."""
    deadline = time.monotonic() + BUSY
    while time.monotonic() < deadline:
        with contextlib.suppress(sqlite3.OperationalError):
            database.execute("PRAGMA journal_mode=WAL")
            return
        time.sleep(0.001)
    database.execute("PRAGMA journal_mode=WAL")
