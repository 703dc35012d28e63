"""``python -m service migrate``: the tables of the job database, DBOS's and ours, made or brought to this release.

A worker does the same when it starts, with a role that may. A role that is only granted what ``grants`` lists reads and
writes the tables and can change none of them: it is enough for the service, and for workers on tables of their release.
"""

from collections.abc import Iterator
from contextlib import closing

import sqlalchemy as sa
from dbos import DBOS

from service import migrations
from service.jobs.database import DBOS_SCHEMA, Database
from service.settings import SettingsError
from service.sql import driver_message, in_turn

ROWS = "SELECT, INSERT, UPDATE, DELETE"


def migrate(url: str, role: str | None) -> None:
    """With the role of the URL, which owns the database. ``role``: another, which is to use the tables.

    Raises SettingsError, or ServiceError ``jobs_unavailable``.
    """
    with closing(Database(url)) as database:
        if role is not None and database.sqlite:
            raise SettingsError("SQLite has no roles: whoever may write the file may do everything")
        try:
            DBOS.migrate(url)
            database.migrate()
            if role is not None:
                with database.engine.begin() as connection:
                    in_turn(connection)  # grants that meet on a table fail
                    for statement in grants(connection, role):
                        connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            raise SettingsError(f"the job database cannot be changed: {driver_message(error)}") from error


def grants(connection: sa.Connection, role: str) -> Iterator[str]:
    """The statements that let a role use the tables there are, and those that this one will make.

    Raises SettingsError for the role that owns the tables: what is taken from the other would be taken from it.
    """
    if role == connection.execute(sa.select(sa.func.current_user())).scalar_one():
        raise SettingsError(f"{role} owns the tables and needs no grant: name the role that is to use them")
    quote = connection.dialect.identifier_preparer.quote_identifier
    schema = quote(connection.execute(sa.select(sa.func.current_schema())).scalar_one())
    names = [name for name in sa.inspect(connection).get_table_names() if name.startswith("gauntlet_")]
    ours = ", ".join(f"{schema}.{quote(name)}" for name in names)
    whom = quote(role)
    yield f"GRANT USAGE ON SCHEMA {schema}, {DBOS_SCHEMA} TO {whom}"
    yield f"GRANT {ROWS} ON {ours} TO {whom}"
    yield f"GRANT {ROWS} ON ALL TABLES IN SCHEMA {DBOS_SCHEMA} TO {whom}"
    yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {DBOS_SCHEMA} TO {whom}"
    for later in (schema, DBOS_SCHEMA):
        yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA {later} GRANT {ROWS} ON TABLES TO {whom}"
        yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA {later} GRANT USAGE ON SEQUENCES TO {whom}"
    for versions in (f"{schema}.{migrations.VERSION_TABLE}", f"{DBOS_SCHEMA}.dbos_migrations"):
        yield f"REVOKE INSERT, UPDATE, DELETE ON {versions} FROM {whom}"
