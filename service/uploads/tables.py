"""Our tables of uploads in the job database: whoever writes first makes them, and nothing is in them before."""

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from service import migrations
from service.sql import Connections, in_turn

TABLES = sa.MetaData()


class Tables:
    """Raises ServiceError ``jobs_unavailable`` while the database cannot be used.

    ``patience`` is how many seconds a statement may take.
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self._database = Connections(url, patience)
        self._made, self._there = False, set[str]()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The tables are there, and nobody else writes: what this one reads holds until it ends."""
        if not self._made:
            with self._database.using():
                migrations.migrate(self._database)
            self._made = True
        with self._database.using(), self._database.engine.begin() as connection:
            in_turn(connection)
            yield connection

    @contextlib.contextmanager
    def reading(self, table: sa.Table) -> Iterator[sa.Connection | None]:
        """None while there is no such table. Who reads waits for no writer, and makes nothing."""
        if not self._database.exists:
            yield None
            return
        with self._database.using(), self._database.engine.connect() as connection:
            if table.name not in self._there and sa.inspect(connection).has_table(table.name):
                self._there.add(table.name)
            yield connection if table.name in self._there else None

    def close(self) -> None:
        self._database.close()
