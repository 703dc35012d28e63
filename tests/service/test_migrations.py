"""The tables of the job database: made, and brought to this release from what an earlier one has left."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service import migrations
from service.auth import quota
from service.errors import Code, ServiceError
from service.jobs import database
from service.request_context import CALL, Call, Caller, Scope
from service.settings import SettingsError
from service.sql import Connections
from service.uploads import storage
from service.uploads.storage import UploadStorage

BYTES = {"sqlite": "BLOB", "postgres": "BYTEA"}
BEFORE = """
CREATE TABLE IF NOT EXISTS gauntlet_executors (executor TEXT NOT NULL, machine TEXT NOT NULL, host TEXT NOT NULL,
    seen_ms BIGINT NOT NULL, PRIMARY KEY (executor));
CREATE TABLE IF NOT EXISTS gauntlet_usage (owner VARCHAR(64) NOT NULL, day VARCHAR(10) NOT NULL,
    reports INTEGER NOT NULL, PRIMARY KEY (owner, day));
CREATE TABLE IF NOT EXISTS gauntlet_blobs (sha256 VARCHAR(64) NOT NULL, data {bytes} NOT NULL, PRIMARY KEY (sha256));
CREATE TABLE IF NOT EXISTS gauntlet_uploads (kind VARCHAR(16) NOT NULL, name VARCHAR(64) NOT NULL,
    sha256 VARCHAR(64) NOT NULL, record TEXT NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (kind, name));
CREATE INDEX IF NOT EXISTS ix_gauntlet_uploads_sha256 ON gauntlet_uploads (sha256);
"""
"""What a release without revisions has executed: the workers the first two tables, an upload the others."""

ROWS = """
INSERT INTO gauntlet_executors VALUES ('w', 'm', 'h', 7);
INSERT INTO gauntlet_usage VALUES ('ann', '2026-11-29', 3);
INSERT INTO gauntlet_blobs VALUES ('5', 'bytes');
INSERT INTO gauntlet_uploads VALUES ('model', 'mine', '5', '{}', 1.5);
"""
OURS = [database._OURS, quota.TABLES, storage._TABLES]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Connections]]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").database(f"migrations-{uuid.uuid4()}")
    else:
        (tmp_path / "jobs.sqlite").touch()
    made = Connections(url)
    yield request.param, made
    made.close()


def before(kind: str) -> str:
    return BEFORE.replace("{bytes}", BYTES[kind])


def execute(connections: Connections, script: str) -> None:
    with connections.engine.begin() as connection:
        for statement in filter(str.strip, script.split(";")):
            connection.exec_driver_sql(statement)


def differences(connections: Connections) -> list[object]:
    """Between the tables of the database and those that the program reads and writes."""
    with connections.engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_object": lambda thing, name, kind, *_: kind != "table" or name.startswith("gauntlet_"),
            "version_table": migrations.VERSION_TABLE,
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), OURS)


def rows(connections: Connections, table: str) -> list[tuple[object, ...]]:
    with connections.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


def test_the_last_revision_is_the_one_that_the_program_asks_for():
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrations.HEAD]
    assert [found.revision for found in script.walk_revisions()] == [str(n) for n in range(int(migrations.HEAD), 0, -1)]


def test_an_empty_database_gets_the_tables_that_the_program_uses(empty: tuple[str, Connections]):
    _, connections = empty
    assert differences(connections)
    migrations.migrate(connections)
    assert differences(connections) == []
    migrations.migrate(connections)
    assert rows(connections, migrations.VERSION_TABLE) == [(migrations.HEAD,)]


@pytest.mark.parametrize("tables", ["all", "none of uploads"])
def test_a_database_without_revisions_is_taken_over_with_its_rows(empty: tuple[str, Connections], tables: str):
    kind, connections = empty
    execute(connections, before(kind) + ROWS)
    if tables != "all":
        execute(connections, "DROP TABLE gauntlet_uploads; DROP TABLE gauntlet_blobs")
    migrations.migrate(connections)
    assert differences(connections) == []
    assert rows(connections, "gauntlet_executors") == [("w", "m", "h", 7)]
    assert rows(connections, "gauntlet_usage") == [("ann", "2026-11-29", 3)]
    if tables == "all":
        assert len(rows(connections, "gauntlet_blobs")) == 1
        ((*kept, owner, shared),) = rows(connections, "gauntlet_uploads")
        assert kept == ["model", "mine", "5", "{}", 1.5]
        assert (owner, bool(shared)) == (None, True)


def test_the_first_revision_is_what_releases_without_revisions_made(
    empty: tuple[str, Connections], monkeypatch: pytest.MonkeyPatch
):
    """Columns, keys and indexes of the old DDL: the revision itself finds nothing to make there."""
    kind, connections = empty
    monkeypatch.setattr(migrations, "HEAD", "1")

    def tables() -> dict[str, object]:
        inspector = sa.inspect(connections.engine)
        return {
            name: (
                [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)],
                inspector.get_pk_constraint(name)["constrained_columns"],
                [(index["name"], index["column_names"]) for index in inspector.get_indexes(name)],
            )
            for name in inspector.get_table_names()
            if name.startswith("gauntlet_") and name != migrations.VERSION_TABLE
        }

    migrations.migrate(connections)
    made = tables()
    assert len(made) == 4
    execute(connections, "; ".join(f"DROP TABLE {name}" for name in [*made, migrations.VERSION_TABLE]))
    execute(connections, before(kind))
    assert tables() == made


def test_a_file_that_is_not_there_is_made_by_who_migrates_and_not_by_an_upload(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    uploads, connections = UploadStorage(url), Connections(url)
    with pytest.raises(ServiceError, match="does not exist yet"):
        uploads.add("model", "mine", b"bytes", "{}", 9)
    assert not (tmp_path / "jobs.sqlite").exists()
    migrations.migrate(connections)
    uploads.add("model", "mine", b"bytes", "{}", 9)
    uploads.close()
    connections.close()


def test_what_failed_half_way_leaves_nothing(empty: tuple[str, Connections], monkeypatch: pytest.MonkeyPatch):
    kind, connections = empty
    execute(connections, before(kind) + ROWS)
    with monkeypatch.context() as broken:
        broken.setattr("alembic.op.add_column", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrations.migrate(connections)
    assert not sa.inspect(connections.engine).has_table(migrations.VERSION_TABLE)
    migrations.migrate(connections)
    assert differences(connections) == []


def test_the_database_of_a_later_release_is_left_alone(empty: tuple[str, Connections]):
    _, connections = empty
    migrations.migrate(connections)
    execute(connections, f"UPDATE {migrations.VERSION_TABLE} SET version_num = '99'")
    with pytest.raises(SettingsError, match=r"has revision 99 .* this release knows"):
        migrations.migrate(connections)


def test_who_asks_before_the_tables_are_of_this_release_is_told_so_and_not_that_nothing_is_there(
    empty: tuple[str, Connections],
):
    kind, connections = empty
    execute(connections, before(kind) + ROWS)
    uploads = UploadStorage(connections.engine.url.render_as_string(hide_password=False))
    token = CALL.set(Call(caller=Caller("ann", Scope.READ)))
    try:
        with pytest.raises(ServiceError) as refused:
            uploads.records("model")
        assert refused.value.code is Code.JOBS_UNAVAILABLE
        migrations.migrate(connections)
        assert uploads.records("model") == {"mine": "{}"}
    finally:
        CALL.reset(token)
        uploads.close()
