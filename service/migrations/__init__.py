"""The revisions of our tables in the job database, in order, run by Alembic. DBOS has revisions of its own tables.

A change of a table is a new file in ``versions``, whose number is ``HEAD`` from then on; a file that was released stays
as it is. It says in plain DDL what changes, and imports no table: those are what the last revision leaves.
"""

from functools import partial
from pathlib import Path

import sqlalchemy as sa

from service.settings import SettingsError
from service.sql import BUSY_MS, Connections, in_turn, write_ahead

HEAD = "3"
"""The revision that this release reads and writes."""

VERSION_TABLE = "gauntlet_revision"
_VERSION = sa.table(VERSION_TABLE, sa.column("version_num"))


def migrate(database: Connections) -> None:
    """Bring the tables of the job database to this release's revision, those of a release without revisions included.

    Several processes may ask at the same time. Raises SettingsError where a later release has been there, ServiceError
    ``jobs_unavailable`` where the database cannot be used, or not be changed by this role.
    """
    with database.using(new=True):
        if database.sqlite:
            write_ahead(partial(_execute, database.engine), BUSY_MS / 1000)
        with database.engine.begin() as connection:
            _migrate(connection)


def _migrate(connection: sa.Connection) -> None:
    if revision(connection) == HEAD:
        return
    in_turn(connection)  # Alembic looks first, then changes
    check_known(revision(connection))
    _upgrade(connection)


def check_known(found: str | None) -> None:
    """Raises SettingsError for the revision of a later release."""
    if found is not None and int(found) > int(HEAD):
        known = f"this release knows {HEAD}: a later one was here"
        raise SettingsError(f"the job database has revision {found} of its tables, {known}")


def revision(connection: sa.Connection) -> str | None:
    """None: there are no tables, or those of a release without revisions."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.select(_VERSION.c.version_num)).scalar_one_or_none()


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415  a fifth of a second that most starts do without
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, HEAD)


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
