"""How many requests of one requester are being answered, over all processes of a service together.

A process counts its own, in a row that names it. Rows of processes that have ended count no more.
"""

import os
import sqlite3
import threading
from functools import cached_property
from pathlib import Path

from service.auth.shared_file import connect
from service.observability.logs import LOGGER

TABLE = """
CREATE TABLE IF NOT EXISTS answering (name TEXT, process INTEGER, n INTEGER NOT NULL, PRIMARY KEY (name, process))
WITHOUT ROWID
"""
ENTER = """
INSERT INTO answering (name, process, n)
SELECT :name, :process, 1 WHERE (SELECT coalesce(sum(n), 0) FROM answering WHERE name = :name) < :most
ON CONFLICT (name, process) DO UPDATE SET n = n + 1
RETURNING n
"""
LEAVE = "UPDATE answering SET n = n - 1 WHERE name = ? AND process = ?"
FORGET = "DELETE FROM answering WHERE process = ?"


class RequestsAtOnce:
    """Counts in an SQLite file that processes share. Safe to use from several threads."""

    def __init__(self, path: Path | None = None, process: int | None = None) -> None:
        self._path, self._process = path, os.getpid() if process is None else process
        self._lock = threading.Lock()

    @cached_property
    def _database(self) -> sqlite3.Connection:
        made = connect(self._path, TABLE)
        made.execute(FORGET, [self._process])  # of a process before, which had this number
        return made

    def enter(self, name: str, most: int) -> bool:
        """Whether one more may be answered, which is counted until ``leave``.

        Where the file cannot be written, as on a full disk, nobody is limited, and the log says so.
        """
        try:
            with self._lock:
                return self._enter(name, most) or (self._forget_ended() and self._enter(name, most))
        except (OSError, sqlite3.Error) as error:
            LOGGER.error("requests at once are not limited: %s", error)
            return True

    def leave(self, name: str) -> None:
        """One that was entered has been answered."""
        try:
            with self._lock:
                self._database.execute(LEAVE, [name, self._process])
        except (OSError, sqlite3.Error) as error:
            LOGGER.error("an answered request is still counted: %s", error)

    def _enter(self, name: str, most: int) -> bool:
        values = {"name": name, "process": self._process, "most": most}
        return self._database.execute(ENTER, values).fetchone() is not None

    def _forget_ended(self) -> bool:
        """Whether there were rows of processes that have ended."""
        processes = [row[0] for row in self._database.execute("SELECT DISTINCT process FROM answering")]
        ended = [process for process in processes if not Path(f"/proc/{process}").exists()]
        for process in ended:
            self._database.execute(FORGET, [process])
        return bool(ended)
