"""Where uploads are kept: in the job database, graphs and images by their sha256, and names that point to them.

Every host sees the same. A database that does not exist yet holds nothing.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from typing import Literal

import sqlalchemy as sa

from gauntlet.text import storable
from service import migrations
from service.errors import Code, ServiceError
from service.sql import Connections, in_turn, patiently
from service.uploads.ownership import OPERATORS, Ownership, removable, visible

Kind = Literal["model", "evalset"]

_TABLES = sa.MetaData()
BLOBS = sa.Table(
    "gauntlet_blobs",
    _TABLES,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
NAMES = sa.Table(
    "gauntlet_uploads",
    _TABLES,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("owner", sa.String(64)),  # the name of a key; none: nobody's
    sa.Column("shared", sa.Boolean, nullable=False, server_default=sa.true()),
)


class UploadStorage:
    """Records (JSON, written here and read here) and blobs. Raises ``jobs_unavailable`` while it cannot be used.

    What the call under way may not see is not there for it (``service.uploads.ownership``), but its name is taken.
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self._database = Connections(url, patience)
        self._ready = False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """The tables are there, and nobody else writes: who deletes the last name of bytes sees all others."""
        if not self._ready:
            with self._database.using():
                migrations.migrate(self._database)
            self._ready = True
        with self._database.using(), self._database.engine.begin() as connection:
            in_turn(connection)
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection | None]:
        """None while there are no tables: nothing is stored. Who reads waits for no writer, and makes nothing."""
        if not self._database.exists:
            yield None
            return
        with self._database.using(), self._database.engine.connect() as connection:
            self._ready = self._ready or sa.inspect(connection).has_table(NAMES.name)
            yield connection if self._ready else None

    def records(self, kind: Kind) -> dict[str, str]:
        """By name, oldest first."""
        seen = (NAMES.c.kind == kind) & visible(NAMES)
        wanted = sa.select(NAMES.c.name, NAMES.c.record).where(seen).order_by(NAMES.c.created_at)
        with self._reading() as connection:
            return {} if connection is None else {row.name: row.record for row in connection.execute(wanted)}

    def record(self, kind: Kind, name: str) -> str | None:
        wanted = sa.select(NAMES.c.record).where(NAMES.c.kind == kind, NAMES.c.name == name, visible(NAMES))
        if not storable(name):
            return None
        with self._reading() as connection:
            return None if connection is None else connection.execute(wanted).scalar_one_or_none()

    def hidden(self, kind: Kind) -> frozenset[str]:
        """The names that are taken by what the call under way may not see."""
        wanted = sa.select(NAMES.c.name).where(NAMES.c.kind == kind, ~visible(NAMES))
        with self._reading() as connection:
            return frozenset() if connection is None else frozenset(connection.execute(wanted).scalars())

    def check_removable(self, kind: Kind, name: str) -> None:
        """Raises ServiceError ``forbidden`` where the call under way may see it, but not delete it."""
        others = visible(NAMES) & ~removable(NAMES)
        wanted = sa.select(NAMES.c.name).where(NAMES.c.kind == kind, NAMES.c.name == name, others)
        with self._reading() as connection:
            if connection is not None and connection.execute(wanted).first() is not None:
                message = f"{name} can be deleted with the key that uploaded it, or one with the scope admin"
                raise ServiceError(Code.FORBIDDEN, message, field="name")

    def blob(self, sha256: str) -> bytes | None:
        """The bytes, held against their digest."""
        wanted = sa.select(BLOBS.c.data).where(BLOBS.c.sha256 == sha256)
        with self._reading() as connection:
            if connection is None:
                return None
            with patiently(connection):
                data = connection.execute(wanted).scalar_one_or_none()
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    def add(
        self, kind: Kind, name: str, data: bytes, record: str, limit: int, ownership: Ownership = OPERATORS
    ) -> None:
        """Raises ServiceError ``name_taken``, or ``uploads_full`` where there are ``limit`` of the kind."""
        sha256 = hashlib.sha256(data).hexdigest()
        what = {"kind": kind, "name": name, "sha256": sha256, "record": record, "created_at": time.time()}
        entry = {**what, "owner": ownership.owner, "shared": ownership.shared}
        try:
            with self._writing() as connection:
                count = sa.select(sa.func.count()).select_from(NAMES).where(NAMES.c.kind == kind)
                if connection.execute(count).scalar_one() >= limit:
                    message = f"{limit} uploads of this kind are kept already; delete one first"
                    raise ServiceError(Code.UPLOADS_FULL, message, limit=limit)
                connection.execute(sa.insert(NAMES).values(entry))
                if connection.execute(sa.select(BLOBS.c.sha256).where(BLOBS.c.sha256 == sha256)).first() is None:
                    with patiently(connection):
                        connection.execute(sa.insert(BLOBS).values(sha256=sha256, data=data))
        except ServiceError as error:
            if isinstance(error.__cause__, sa.exc.IntegrityError):
                raise name_taken(name) from error
            raise

    def remove(self, kind: Kind, name: str) -> None:
        """Forget a name that the call under way may delete, and what no other name stands for."""
        if not storable(name):
            return
        with self._writing() as connection:
            connection.execute(sa.delete(NAMES).where(NAMES.c.kind == kind, NAMES.c.name == name, removable(NAMES)))
            with patiently(connection):
                connection.execute(sa.delete(BLOBS).where(BLOBS.c.sha256.not_in(sa.select(NAMES.c.sha256))))

    def close(self) -> None:
        self._database.close()


def name_taken(name: str) -> ServiceError:
    """For a name that is in use."""
    message = f"the name {name!r} is taken; choose another, or delete what has it"
    return ServiceError(Code.NAME_TAKEN, message, field="name")
