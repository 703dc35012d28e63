"""How often somebody may ask, over all processes of a service together: the generic cell rate algorithm (GCRA).

One row says when somebody's bucket will be full again (ITU-T I.371's theoretical arrival time); one statement of SQLite
moves it, so two processes never both spend the last token.
"""

import math
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from service.auth.shared_file import connect
from service.observability.logs import LOGGER

BURST = 0.25  # minutes: a bucket holds as many requests as are allowed in so long, and at least one
PURGE = 1000  # requests between two removals of the buckets that are full again, which are as good as none

TABLE = "CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, full_at REAL NOT NULL) WITHOUT ROWID"
TAKE = """
INSERT INTO buckets (name, full_at) VALUES (:name, :now + :interval)
ON CONFLICT (name) DO UPDATE SET full_at = max(full_at, :now) + :interval
WHERE max(full_at, :now) + :interval <= :now + :capacity
RETURNING full_at
"""


class RateLimiter:
    """Buckets in an SQLite file that processes share, or without a path in memory. Safe to use from several threads.

    ``clock`` gives seconds, the same for all processes of the host.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._lock, self._taken = threading.Lock(), 0

    @cached_property
    def _database(self) -> sqlite3.Connection:
        return connect(self._path, TABLE)  # a lost bucket is a full one

    def take(self, name: str, per_minute: int) -> int:
        """Take one token of this bucket. Returns the seconds to wait for the next if there is none, else 0.

        Where the file cannot be written, as on a full disk, nobody is limited, and the log says so.
        """
        interval = 60 / per_minute  # seconds
        capacity = max(interval, 60 * BURST)
        now = self._clock()
        values = {"name": name, "now": now, "interval": interval, "capacity": capacity + 1e-6}
        try:
            with self._lock:
                self._purge(now)
                if self._database.execute(TAKE, values).fetchone() is not None:
                    return 0
                row = self._database.execute("SELECT full_at FROM buckets WHERE name = ?", [name]).fetchone()
        except (OSError, sqlite3.Error) as error:
            LOGGER.error("requests are not limited: %s", error)
            return 0
        return 0 if row is None else max(1, math.ceil(row[0] + interval - now - capacity))

    def _purge(self, now: float) -> None:
        self._taken += 1
        if self._taken % PURGE == 0:
            self._database.execute("DELETE FROM buckets WHERE full_at < ?", [now])
