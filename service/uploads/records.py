"""Where uploads are kept: records in the job database, graphs and images as files by their sha256.

Every host sees the same records; it fetches a file when it opens it. A database that does not exist yet holds nothing.
"""

import time
from typing import IO, Literal, Self

import sqlalchemy as sa

from gauntlet.errors import ModelFailed
from gauntlet.text import storable
from service.errors import Code, ServiceError
from service.settings import Settings
from service.sql import patiently
from service.uploads.file_storage import FileStore, file_store
from service.uploads.openings import Openings, name_taken
from service.uploads.ownership import OPERATORS, Ownership, check_removable, removable, visible
from service.uploads.tables import TABLES, Tables

Kind = Literal["model", "evalset"]

BLOBS = sa.Table(  # in which earlier releases kept the files
    "gauntlet_blobs",
    TABLES,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
NAMES = sa.Table(
    "gauntlet_uploads",
    TABLES,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("owner", sa.String(64)),  # the name of a key; none: nobody's
    sa.Column("shared", sa.Boolean, nullable=False, server_default=sa.true()),
)


class UploadRecords:
    """Records (JSON, written here and read here), and the file of each.

    What the call under way may not see is not there for it (``service.uploads.ownership``), but its name is taken.
    Raises ServiceError ``jobs_unavailable`` or ``store_unavailable`` while database or files cannot be used.
    """

    def __init__(self, url: str, files: FileStore, patience: float | None = None) -> None:
        self._tables, self.files = Tables(url, patience), files
        self.openings = Openings(self._tables)

    @classmethod
    def of(cls, settings: Settings, patience: float | None = None) -> Self:
        """Raises InvalidInput for a GAUNTLET_STORE that is none."""
        return cls(settings.database_url, file_store(settings), patience)

    def records(self, kind: Kind) -> dict[str, str]:
        """By name, oldest first."""
        seen = (NAMES.c.kind == kind) & visible(NAMES)
        wanted = sa.select(NAMES.c.name, NAMES.c.record).where(seen).order_by(NAMES.c.created_at)
        with self._tables.reading(NAMES) as connection:
            return {} if connection is None else {row.name: row.record for row in connection.execute(wanted)}

    def record(self, kind: Kind, name: str) -> str | None:
        wanted = sa.select(NAMES.c.record).where(NAMES.c.kind == kind, NAMES.c.name == name, visible(NAMES))
        if not storable(name):
            return None
        with self._tables.reading(NAMES) as connection:
            return None if connection is None else connection.execute(wanted).scalar_one_or_none()

    def taken(self, kind: Kind, name: str) -> bool:
        """Whether something has this name, whoever may see it."""
        wanted = sa.select(NAMES.c.name).where(NAMES.c.kind == kind, NAMES.c.name == name)
        with self._tables.reading(NAMES) as connection:
            return connection is not None and connection.execute(wanted).first() is not None

    def hidden(self, kind: Kind) -> frozenset[str]:
        """The names that are taken by what the call under way may not see."""
        wanted = sa.select(NAMES.c.name).where(NAMES.c.kind == kind, ~visible(NAMES))
        with self._tables.reading(NAMES) as connection:
            return frozenset() if connection is None else frozenset(connection.execute(wanted).scalars())

    def check_removable(self, kind: Kind, name: str) -> None:
        """Raises ServiceError ``forbidden`` where the call under way may see it, but not delete it."""
        with self._tables.reading(NAMES) as connection:
            if connection is not None:
                check_removable(connection, NAMES, name, NAMES.c.kind == kind)

    def check_room(self, kind: Kind, limit: int) -> None:
        """Raises ServiceError ``uploads_full`` where there are ``limit`` of the kind, whoever may see them."""
        with self._tables.reading(NAMES) as connection:
            if connection is not None and _count(connection, kind) >= limit:
                raise uploads_full(limit)

    def add(
        self,
        kind: Kind,
        name: str,
        sha256: str,
        draft: IO[bytes],
        record: str,
        limit: int,
        ownership: Ownership = OPERATORS,
    ) -> None:
        """Keep a draft of the file store that has this sha256.

        Raises ServiceError ``name_taken`` or ``uploads_full``, ModelFailed where it has another.
        """
        if (kept := self.files.keep(draft)) != sha256:
            self._remove_unnamed([kept])
            raise ModelFailed("its file is not what it is said to be")
        what = {"kind": kind, "name": name, "sha256": sha256, "record": record, "created_at": time.time()}
        entry = {**what, "owner": ownership.owner, "shared": ownership.shared}
        try:
            with self._tables.writing() as connection:
                if _count(connection, kind) >= limit:
                    raise uploads_full(limit)
                connection.execute(sa.insert(NAMES).values(entry))
        except ServiceError as error:
            self._remove_unnamed([sha256])
            if isinstance(error.__cause__, sa.exc.IntegrityError):
                raise name_taken(name) from error
            raise
        self.files.keep(draft)  # again: the last other name of it may have gone before this one was there

    def remove(self, kind: Kind, name: str) -> None:
        """Forget a name that the call under way may delete, and its file if no other name stands for it."""
        if not storable(name):
            return
        ours = (NAMES.c.kind == kind) & (NAMES.c.name == name) & removable(NAMES)
        with self._tables.writing() as connection:
            found = list(connection.execute(sa.delete(NAMES).where(ours).returning(NAMES.c.sha256)).scalars())
        self._remove_unnamed(found)

    def move_bytes(self) -> None:
        """Make files of what earlier releases kept in the job database."""
        with self._tables.reading(BLOBS) as connection:
            kept = [] if connection is None else list(connection.execute(sa.select(BLOBS.c.sha256)).scalars())
        for sha256 in kept:
            with self.files.draft() as draft:
                draft.write(self._bytes(sha256))
                self.files.keep(draft)
            with self._tables.writing() as connection:
                connection.execute(sa.delete(BLOBS).where(BLOBS.c.sha256 == sha256))
        self._remove_unnamed(kept)

    def _bytes(self, sha256: str) -> bytes:
        """Those of a row; none where another host has moved them."""
        with self._tables.reading(BLOBS) as connection:
            assert connection is not None
            with patiently(connection):
                found = connection.execute(sa.select(BLOBS.c.data).where(BLOBS.c.sha256 == sha256))
                return found.scalar_one_or_none() or b""

    def sweep(self) -> None:
        """Remove the files that nobody refers to: left behind by a process that ended before it gave them a name."""
        self._remove_unnamed(self.files.old())

    def _remove_unnamed(self, files: list[str]) -> None:
        """While nobody can name them: who adds one of them now keeps it once more afterwards."""
        if not files:
            return
        with self._tables.writing() as connection:
            named = set(connection.execute(sa.select(NAMES.c.sha256).where(NAMES.c.sha256.in_(files))).scalars())
            for sha256 in set(files) - named:
                self.files.remove(sha256)

    def close(self) -> None:
        self._tables.close()


def _count(connection: sa.Connection, kind: Kind) -> int:
    count = sa.select(sa.func.count()).select_from(NAMES).where(NAMES.c.kind == kind)
    return int(connection.execute(count).scalar_one())


def uploads_full(limit: int) -> ServiceError:
    """For one more than may be."""
    return ServiceError(
        Code.UPLOADS_FULL, f"{limit} uploads of this kind are kept already; delete one first", limit=limit
    )
