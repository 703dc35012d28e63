"""How uploaded models are opened: where each stands, what was proved of it, or why it was refused.

In the job database, so that every host tells the same. Who may see an upload may see how it is opened.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from gauntlet.text import storable
from service.errors import Code, ServiceError
from service.uploads.ownership import Ownership, check_removable, visible
from service.uploads.tables import TABLES, Tables

State = Literal["opening", "ready", "failed"]
Stage = Literal["waiting", "fetching", "converting", "verifying", "storing"]

KEPT = 3600.0  # seconds for which a failure is told
SILENT = 7200.0  # seconds without a change after which whoever opens it has ended, with its host
ENDED = {"code": Code.MODEL_FAILED, "message": "the service ended while it opened the file; upload it again"}

OPENINGS = sa.Table(
    "gauntlet_openings",
    TABLES,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("result", sa.Text, nullable=False),  # JSON: what was proved; of a failure its code, message and details
    sa.Column("opener", sa.Text, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("owner", sa.String(64)),
    sa.Column("shared", sa.Boolean, nullable=False, server_default=sa.true()),
)


@dataclass(frozen=True)
class Opening:
    """Of one model."""

    name: str
    state: State
    stage: Stage
    result: dict[str, Any]


class Openings:
    """By the name of the model. Raises ServiceError ``jobs_unavailable`` while the database cannot be used."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def begin(self, name: str, opener: str, ownership: Ownership) -> None:
        """A model that has no name in the store yet. Raises ServiceError ``name_taken`` while another is opened.

        ``opener`` is whoever opens it, under the same name after a restart.
        """
        with self._tables.writing() as connection:
            connection.execute(sa.delete(OPENINGS).where(_over()))
            found = connection.execute(sa.select(OPENINGS.c.state).where(OPENINGS.c.name == name)).scalar_one_or_none()
            if found == "opening":
                raise name_taken(name)
            connection.execute(sa.delete(OPENINGS).where(OPENINGS.c.name == name))
            entry = {"name": name, "state": "opening", "stage": "waiting", "result": "{}", "opener": opener}
            whose = {"owner": ownership.owner, "shared": ownership.shared}
            connection.execute(sa.insert(OPENINGS).values(**entry, **whose, changed_at=time.time()))

    def advance(self, name: str, stage: Stage) -> None:
        self._change(OPENINGS.c.name == name, stage=stage)

    def failed(self, name: str, result: Mapping[str, Any]) -> None:
        self._change(OPENINGS.c.name == name, state="failed", result=json.dumps(result))

    def proved(self, name: str, result: Mapping[str, Any]) -> None:
        """What is told of it as soon as it can be used, and as long as it is there."""
        self._change(OPENINGS.c.name == name, stage="storing", result=json.dumps(result))

    def ready(self, name: str) -> None:
        """It is in the store."""
        self._change(OPENINGS.c.name == name, state="ready")

    def check_removable(self, name: str) -> None:
        """Raises ServiceError ``forbidden`` where the call under way may see it, but not make it forgotten."""
        with self._tables.reading(OPENINGS) as connection:
            if connection is not None:
                check_removable(connection, OPENINGS, name)

    def forget(self, name: str) -> None:
        with self._tables.writing() as connection:
            connection.execute(sa.delete(OPENINGS).where(OPENINGS.c.name == name))

    def end_all(self, opener: str) -> None:
        """Those that the opener was at when it was killed have failed."""
        if any(one.state == "opening" for one in self.all()):
            going = (OPENINGS.c.opener == opener) & (OPENINGS.c.state == "opening")
            self._change(going, state="failed", result=json.dumps(ENDED))

    def all(self) -> list[Opening]:
        """Oldest change first."""
        wanted = sa.select(OPENINGS).where(~_over(), visible(OPENINGS)).order_by(OPENINGS.c.changed_at)
        with self._tables.reading(OPENINGS) as connection:
            return [] if connection is None else [_read(row) for row in connection.execute(wanted)]

    def get(self, name: str) -> Opening | None:
        if not storable(name):
            return None
        with self._tables.reading(OPENINGS) as connection:
            if connection is None:
                return None
            wanted = sa.select(OPENINGS).where(OPENINGS.c.name == name, ~_over(), visible(OPENINGS))
            row = connection.execute(wanted).one_or_none()
            return None if row is None else _read(row)

    def _change(self, which: sa.ColumnElement[bool], **values: object) -> None:
        with self._tables.writing() as connection:
            connection.execute(sa.update(OPENINGS).where(which).values(changed_at=time.time(), **values))


def _over() -> sa.ColumnElement[bool]:
    """What is told no more."""
    now = time.time()
    failed = (OPENINGS.c.state == "failed") & (OPENINGS.c.changed_at < now - KEPT)
    silent = (OPENINGS.c.state == "opening") & (OPENINGS.c.changed_at < now - SILENT)
    return failed | silent


def _read(row: Any) -> Opening:
    return Opening(row.name, row.state, row.stage, json.loads(row.result))


def name_taken(name: str) -> ServiceError:
    """For a name that is in use."""
    message = f"the name {name!r} is taken; choose another, or delete what has it"
    return ServiceError(Code.NAME_TAKEN, message, field="name")
