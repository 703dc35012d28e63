"""``python -m service migrate``: who makes the tables, and what a role that may not can do with them."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from service.auth.quota import Owner
from service.errors import Code, ServiceError
from service.jobs.queue import Jobs
from service.jobs.schema import migrate
from service.jobs.worker_registry import WorkerRegistry
from service.settings import SettingsError
from tests import zoo
from tests.service.conftest import ROOT, SHORT_REPORT, Server, build_models, environment, wait_for
from tests.service.databases import Postgres
from tests.service.stored import add, uploads
from tests.service.test_uploads import bring


@dataclass(frozen=True)
class Roles:
    """The same database, as the role that owns it and as one that may use it."""

    owner: str
    user: str

    @property
    def user_name(self) -> str:
        return sa.make_url(self.user).username or ""


@pytest.fixture
def roles(postgres: Postgres) -> Roles:
    """A database without a table, of a role that is no superuser, and another role without any right."""
    name = uuid.uuid4().hex[:12]
    url = sa.make_url(postgres.database(f"roles-{name}"))
    with psycopg.connect(postgres.url(str(url.database)), autocommit=True) as connection:
        for role in ("owner", "user"):
            connection.execute(f'CREATE ROLE "{role}-{name}" LOGIN')  # type: ignore[arg-type]
        connection.execute(f'ALTER DATABASE "{url.database}" OWNER TO "owner-{name}"')  # type: ignore[arg-type]
    return Roles(*(url.set(username=f"{role}-{name}").render_as_string(False) for role in ("owner", "user")))


CHANGES = [
    "CREATE TABLE more (x int)",
    "CREATE TABLE dbos.more (x int)",
    "CREATE SCHEMA more",
    "ALTER TABLE gauntlet_uploads ADD COLUMN more int",
    "ALTER TABLE dbos.workflow_status ADD COLUMN more int",
    "DROP TABLE gauntlet_blobs",
    "DROP TABLE dbos.workflow_status CASCADE",
    "TRUNCATE gauntlet_uploads",
    "TRUNCATE dbos.workflow_status CASCADE",
    "CREATE INDEX more ON gauntlet_uploads (name)",
    "UPDATE gauntlet_revision SET version_num = '1'",
    "UPDATE dbos.dbos_migrations SET version = 1",
    "CREATE ROLE more",
    "COPY gauntlet_uploads TO PROGRAM 'true'",
]


@pytest.mark.postgres
def test_a_role_that_may_use_the_tables_can_do_all_that_the_service_does_and_change_none(roles: Roles, tmp_path: Path):
    migrate(roles.owner, roles.user_name)
    jobs, storage = Jobs(roles.user), uploads(roles.user, tmp_path / "store")
    request = {"models": ["linear"], "dataset": "tiny", "n": 1}
    job, _ = jobs.submit(request, {}, "key", 10, Owner("ann", reports_per_day=9))
    assert jobs.get(job.id).request == request
    assert [found.id for found in jobs.page(None, 9, None)[0]] == [job.id]
    assert (jobs.backlog().counts["queued"], jobs.workers(), jobs.in_use("models/x")) == (1, 0, False)
    jobs.cancel(job.id)
    jobs.delete(job.id)
    add(storage, "mine")
    assert storage.records("model") == {"mine": "{}"}
    storage.remove("model", "mine")
    registry = WorkerRegistry(jobs.database)
    registry.heartbeat("worker")
    registry.leave("worker")
    for change in CHANGES:
        with jobs.database.engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError) as refused:
            connection.exec_driver_sql(change)
        assert refused.value.orig.sqlstate == "42501", change  # insufficient_privilege
    storage.close()
    jobs.close()


@pytest.mark.postgres
def test_later_tables_of_the_owner_are_the_users_too(roles: Roles):
    migrate(roles.owner, roles.user_name)
    with psycopg.connect(roles.owner) as connection:
        connection.execute("CREATE TABLE dbos.later (x serial); CREATE TABLE gauntlet_later (x serial)")
    with psycopg.connect(roles.user) as connection:
        for table in ("dbos.later", "gauntlet_later"):
            connection.execute(f"INSERT INTO {table} DEFAULT VALUES")  # type: ignore[arg-type]


@pytest.mark.postgres
def test_who_may_not_make_the_tables_says_so_and_makes_none(roles: Roles, tmp_path: Path):
    storage = uploads(roles.user, tmp_path / "store")
    assert storage.records("model") == {}
    with pytest.raises(ServiceError, match="does not let the service do this") as refused:
        add(storage, "mine")
    assert refused.value.code is Code.JOBS_UNAVAILABLE
    with pytest.raises(SettingsError, match="cannot be changed: permission denied"):
        migrate(roles.user, None)
    storage.close()


@pytest.mark.postgres
def test_the_owner_is_granted_nothing_and_loses_nothing(roles: Roles):
    owner = sa.make_url(roles.owner).username
    with pytest.raises(SettingsError, match="owns the tables and needs no grant"):
        migrate(roles.owner, owner)
    migrate(roles.owner, roles.user_name)


@pytest.mark.postgres
def test_several_may_migrate_and_grant_at_once(roles: Roles):
    migrate(roles.owner, None)
    with ThreadPoolExecutor() as pool:
        list(pool.map(migrate, [roles.owner] * 4, [roles.user_name] * 4))
    with psycopg.connect(roles.user) as connection:
        assert connection.execute("SELECT count(*) FROM gauntlet_uploads").fetchone() == (0,)


@pytest.mark.postgres
def test_a_role_that_does_not_exist_is_named(roles: Roles):
    with pytest.raises(SettingsError, match='role "no"body" does not exist'):
        migrate(roles.owner, 'no"body')


def test_the_command_makes_the_tables_of_sqlite_too_and_grants_nothing_there(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'state' / 'jobs.sqlite'}"
    with pytest.raises(SettingsError, match="SQLite has no roles"):
        migrate(url, "somebody")
    command = [sys.executable, "-m", "service", "migrate"]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    jobs = Jobs(url)
    assert jobs.page(None, 9, None) == ([], None)
    jobs.close()


@pytest.fixture
def without_rights(roles: Roles, tmp_path: Path) -> Iterator[Server]:
    """A service, and a worker of its own, whose role can change no table."""
    migrate(roles.owner, roles.user_name)
    build_models(tmp_path)
    server = Server(tmp_path, {"database_url": roles.user})
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.postgres
def test_a_service_and_its_worker_do_all_without_the_right_to_change_a_table(without_rights: Server):
    assert bring(without_rights.client, zoo.dense((1, 8, 8)), name="mine").status_code == 201
    body: dict[str, Any] = {**SHORT_REPORT, "models": ["linear"]}
    assert without_rights.finished(without_rights.submit(body))["status"] == "succeeded"
    cancelled = without_rights.submit({**body, "seed": 1})
    without_rights.client.post(f"/robustness-report/{cancelled}/cancel")
    wait_for(lambda: without_rights.status(cancelled)["status"] in ("cancelled", "succeeded"))
    for report in without_rights.client.get("/robustness-report").json()["items"]:
        assert without_rights.client.delete(f"/robustness-report/{report['id']}").status_code == 204
    assert without_rights.client.delete("/models/mine").status_code == 204
