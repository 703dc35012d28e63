"""An SQLite file in which the processes of a service count together. What is in it is not worth keeping."""

import sqlite3
from pathlib import Path

from service.sql import write_ahead

BUSY = 2.0  # seconds that a process waits for another's statement, which takes microseconds


def connect(path: Path | None, schema: str) -> sqlite3.Connection:
    """The file, or without a path memory, with this table. Each statement is a transaction."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    made = sqlite3.connect(path or ":memory:", timeout=BUSY, isolation_level=None, check_same_thread=False)
    write_ahead(made.execute, BUSY)
    made.execute("PRAGMA synchronous=OFF")  # what is lost with the machine counted for running processes only
    made.execute(schema)
    return made
