"""Our tables of uploads in the job database: made by whoever writes first, and nothing is in them before."""

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from service.sql import Connections, create, in_turn

TABLES = sa.MetaData()


class Tables:
    """Raises ServiceError ``jobs_unavailable`` while the database cannot be used."""

    def __init__(self, url: str) -> None:
        self._database = Connections(url)
        self._made, self._there = False, set[str]()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The tables are there, and nobody else writes: what this one reads holds until it ends."""
        with self._database.using(), self._database.engine.begin() as connection:
            in_turn(connection)
            if not self._made:
                create(connection, TABLES.sorted_tables)
            yield connection
        self._made = True

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
