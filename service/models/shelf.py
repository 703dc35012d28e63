"""What users brought, in the job database: graphs and images by their sha256, and who goes by which name.

Every host sees the same. A database that does not exist yet holds nothing.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from service.errors import Code, ServiceError
from service.jobs.database import create, create_engine, in_turn, unavailable

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
)


class Shelf:
    """Records (JSON, written here and read here) and blobs. Raises ``jobs_unavailable`` while it cannot be used."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._engine = create_engine(url)
        self._ready = False

    @property
    def _exists(self) -> bool:
        path = self._url.database if self._url.get_backend_name() == "sqlite" else None
        return path is None or Path(path).exists()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sa.Connection]:
        try:
            if not self._ready:
                with self._engine.begin() as connection:
                    create(connection, _TABLES.sorted_tables)
                self._ready = True
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise unavailable("the job database cannot be used", error) from error

    def records(self, kind: Kind) -> dict[str, str]:
        """By name, oldest first."""
        if not self._exists:
            return {}
        with self._open() as connection:
            wanted = sa.select(NAMES.c.name, NAMES.c.record).where(NAMES.c.kind == kind).order_by(NAMES.c.created_at)
            return {row.name: row.record for row in connection.execute(wanted)}

    def record(self, kind: Kind, name: str) -> str | None:
        if not self._exists:
            return None
        with self._open() as connection:
            wanted = sa.select(NAMES.c.record).where(NAMES.c.kind == kind, NAMES.c.name == name)
            found: str | None = connection.execute(wanted).scalar_one_or_none()
            return found

    def blob(self, sha256: str) -> bytes | None:
        """The bytes, held against their digest."""
        with self._open() as connection:
            data = connection.execute(sa.select(BLOBS.c.data).where(BLOBS.c.sha256 == sha256)).scalar_one_or_none()
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    def add(self, kind: Kind, name: str, data: bytes, record: str, limit: int) -> None:
        """Raises ServiceError ``name_taken``, or ``uploads_full`` where there are ``limit`` of the kind."""
        if not self._exists:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "the job database does not exist yet: no worker has started")
        sha256 = hashlib.sha256(data).hexdigest()
        entry = {"kind": kind, "name": name, "sha256": sha256, "record": record, "created_at": time.time()}
        try:
            with self._open() as connection:
                in_turn(connection)  # who deletes the last name of the same bytes would not see this one
                count = sa.select(sa.func.count()).select_from(NAMES).where(NAMES.c.kind == kind)
                if connection.execute(count).scalar_one() >= limit:
                    message = f"{limit} uploads of this kind are kept already; delete one first"
                    raise ServiceError(Code.UPLOADS_FULL, message, limit=limit)
                connection.execute(sa.insert(NAMES).values(entry))
                if connection.execute(sa.select(BLOBS.c.sha256).where(BLOBS.c.sha256 == sha256)).first() is None:
                    connection.execute(sa.insert(BLOBS).values(sha256=sha256, data=data))
        except ServiceError as error:
            if isinstance(error.__cause__, sa.exc.IntegrityError):
                raise taken(name) from error
            raise

    def remove(self, kind: Kind, name: str) -> None:
        """Forget a name, and what no other name stands for."""
        with self._open() as connection:
            in_turn(connection)
            connection.execute(sa.delete(NAMES).where(NAMES.c.kind == kind, NAMES.c.name == name))
            connection.execute(sa.delete(BLOBS).where(BLOBS.c.sha256.not_in(sa.select(NAMES.c.sha256))))

    def close(self) -> None:
        self._engine.dispose()


def taken(name: str) -> ServiceError:
    """For a name that is in use."""
    message = f"the name {name!r} is taken; choose another, or delete what has it"
    return ServiceError(Code.NAME_TAKEN, message, field="name")
