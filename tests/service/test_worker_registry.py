"""What workers and the service ask of the job database, on SQLite and on a real PostgreSQL, without a worker."""

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from service.auth.quota import ANYBODY
from service.errors import Code, ServiceError
from service.jobs import worker_registry as module
from service.jobs.database import EXECUTORS, STEPS, WORKFLOWS, Database, machine
from service.jobs.queue import OLDER, QUEUE, SHARD, VERSION, WORKFLOW, Jobs
from service.jobs.status import Status
from service.jobs.worker_registry import DAY, WorkerRegistry
from service.settings import SettingsError
from service.sql import create_engine
from tests.service.conftest import free_port
from tests.service.databases import Postgres

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def migrated(url: str) -> None:
    DBOS.migrate(url)
    jobs = Jobs(url)
    jobs.database.migrate()
    jobs.database.migrate()  # by another worker
    jobs.close()


@pytest.fixture(scope="module")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "jobs.sqlite"
    migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def postgres_template(postgres: Postgres) -> str:
    migrated(postgres.database("template"))
    return "template"


@pytest.fixture(params=DATABASES)
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path)
        url = f"sqlite:///{path}"
    else:
        template, server = request.getfixturevalue("postgres_template"), request.getfixturevalue("postgres")
        url = server.database(f"jobs-{uuid.uuid4()}", template)
    jobs = Jobs(url)
    yield jobs
    jobs.close()


@pytest.fixture
def executors(jobs: Jobs) -> WorkerRegistry:
    return WorkerRegistry(jobs.database)


def submit(jobs: Jobs, n: int = 1) -> str:
    return jobs.submit({"n": n}, {"models/a": "0"}, None, 100)[0].id


def change(jobs: Jobs, job_id: str, **values: Any) -> None:
    with jobs.database.begin() as connection:
        found = connection.execute(sa.update(WORKFLOWS).where(WORKFLOWS.c.workflow_uuid == job_id).values(values))
    assert found.rowcount == 1


def taken(jobs: Jobs, job_id: str, executor: str) -> str:
    """As DBOS leaves it when a worker takes it."""
    change(jobs, job_id, status="PENDING", executor_id=executor, owner_xid="x", recovery_attempts=1)
    return job_id


def shard(jobs: Jobs, job_id: str, **values: Any) -> str:
    handle = jobs.database.client.enqueue(
        {"workflow_name": SHARD, "queue_name": "shards", "app_version": VERSION}, job_id
    )
    change(jobs, handle.workflow_id, parent_workflow_id=job_id, **values)
    return handle.workflow_id


def row(jobs: Jobs, job_id: str) -> Any:
    with jobs.database.begin() as connection:
        return connection.execute(sa.select(WORKFLOWS).where(WORKFLOWS.c.workflow_uuid == job_id)).one_or_none()


def put_step(jobs: Jobs, job_id: str) -> None:
    step = {"workflow_uuid": job_id, "function_id": 1, "function_name": "a/clean", "retention_timestamp": 0}
    table = sa.table(STEPS.name, *map(sa.column, step), schema=None if jobs.database.sqlite else "dbos")
    with jobs.database.begin() as connection:
        connection.execute(sa.insert(table).values(step))


def steps(jobs: Jobs, job_id: str) -> int:
    with jobs.database.begin() as connection:
        query = sa.select(sa.func.count()).select_from(STEPS).where(STEPS.c.workflow_uuid == job_id)
        return connection.execute(query).scalar_one()


def test_the_backlog_counts_reports_by_status_and_no_shards(jobs: Jobs):
    assert jobs.backlog().counts == dict.fromkeys(Status, 0)
    assert jobs.backlog().oldest == 0
    first, *others = [submit(jobs) for _ in range(5)]
    for word, job_id in zip(("PENDING", "SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"), others, strict=True):
        change(jobs, job_id, status=word)
        change(jobs, job_id, created_at=0)
    shard(jobs, others[0], created_at=0)
    created = int(time.time() - 60)
    change(jobs, first, created_at=1000 * created)
    backlog, now = jobs.backlog(), time.time()
    assert backlog.counts == {
        Status.QUEUED: 1,
        Status.RUNNING: 1,
        Status.SUCCEEDED: 1,
        Status.FAILED: 2,
        Status.CANCELLED: 0,
    }
    assert 60 <= backlog.oldest <= now - created


def test_the_queue_is_limited_in_reports_not_shards(jobs: Jobs):
    shard(jobs, submit(jobs))
    jobs.submit({"n": 2}, {}, None, 2)
    with pytest.raises(ServiceError, match="2 reports wait") as refused:
        jobs.submit({"n": 3}, {}, None, 2)
    assert refused.value.code is Code.TOO_BUSY


def test_a_dead_workers_work_goes_back_into_the_queue_once_and_nobody_elses(jobs: Jobs, executors: WorkerRegistry):
    executors.heartbeat("dead")
    executors.heartbeat("alive")
    report, others, waiting = taken(jobs, submit(jobs), "dead"), taken(jobs, submit(jobs), "alive"), submit(jobs)
    part = taken(jobs, shard(jobs, report), "dead")
    done = shard(jobs, report, status="SUCCESS", executor_id="dead")
    signs = executors.holders()
    assert set(signs) == {"dead", "alive"}
    assert all(signs.values())
    assert executors.take_over("dead") == 2
    assert executors.take_over("dead") == 0
    assert set(executors.holders()) == {"alive"}
    for job_id, queue in ((report, QUEUE), (part, "shards")):
        assert (row(jobs, job_id).status, row(jobs, job_id).queue_name) == ("ENQUEUED", queue)
        assert (row(jobs, job_id).owner_xid, row(jobs, job_id).recovery_attempts) == (None, 1)
    assert [row(jobs, job_id).status for job_id in (others, waiting, done)] == ["PENDING", "ENQUEUED", "SUCCESS"]
    assert jobs.workers() == 1


def test_a_worker_that_never_showed_a_sign_of_life_is_seen_to_hold_work(jobs: Jobs, executors: WorkerRegistry):
    taken(jobs, submit(jobs), "local")
    assert executors.holders() == {"local": None}


def test_who_leaves_gives_its_work_back_without_it_counting_as_a_death(jobs: Jobs, executors: WorkerRegistry):
    executors.heartbeat("one")
    report = taken(jobs, submit(jobs), "one")
    assert executors.leave("one") == 1
    assert (row(jobs, report).status, row(jobs, report).recovery_attempts) == ("ENQUEUED", 0)
    assert jobs.workers() == 0


def test_signs_of_life_are_fresh_for_a_while_and_then_forgotten(jobs: Jobs, executors: WorkerRegistry, monkeypatch):
    executors.heartbeat("one")
    executors.heartbeat("one")
    executors.heartbeat("two")
    assert jobs.workers() == 2
    with jobs.database.begin() as connection:
        aged = sa.update(EXECUTORS).where(EXECUTORS.c.executor == "one")
        connection.execute(aged.values(seen_ms=EXECUTORS.c.seen_ms - 11_000))
    assert jobs.workers() == 1
    monkeypatch.setattr(module, "FORGOTTEN", 10)
    executors.heartbeat("two")
    with jobs.database.begin() as connection:
        assert connection.execute(sa.select(EXECUTORS.c.executor)).scalars().all() == ["two"]


def test_waiting_jobs_of_the_previous_release_are_adopted_and_begin_anew(jobs: Jobs, executors: WorkerRegistry):
    old, begun, running, own, newer = (submit(jobs) for _ in range(5))
    for job_id, version in ((old, OLDER[0]), (begun, OLDER[0]), (running, OLDER[0]), (newer, "99")):
        change(jobs, job_id, application_version=version)
    taken(jobs, running, "local")
    for job_id in (begun, running, own):
        put_step(jobs, job_id)
    parts = [shard(jobs, job_id, status="SUCCESS") for job_id in (begun, running, own)]
    assert executors.adopt() == 2
    assert executors.adopt() == 0
    versions = [row(jobs, job_id).application_version for job_id in (old, begun, running, own, newer)]
    assert versions == [VERSION, VERSION, OLDER[0], VERSION, "99"]
    assert [steps(jobs, job_id) for job_id in (begun, running, own)] == [0, 1, 1]
    assert [row(jobs, part) is not None for part in parts] == [False, True, True]
    executors.take_over("local")
    assert executors.adopt() == 1
    assert VERSION not in OLDER


def test_adopted_reports_wait_among_those_of_their_owner(jobs: Jobs, executors: WorkerRegistry):
    owned, nobodys, known = submit(jobs), submit(jobs), submit(jobs)
    for job_id in (owned, nobodys):
        change(jobs, job_id, application_version=OLDER[-1], queue_partition_key=None)
    change(jobs, owned, authenticated_user="ann")
    change(jobs, known, application_version=OLDER[-1], queue_partition_key="address 192.0.2.1")
    assert executors.adopt() == 3
    assert [jobs.requester(job_id) for job_id in (owned, nobodys, known)] == [
        "key ann",
        ANYBODY.name,
        "address 192.0.2.1",
    ]


def test_what_ended_long_ago_is_deleted_with_its_shards(jobs: Jobs, executors: WorkerRegistry, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    now = int(time.time() * 1000)
    old = [submit(jobs) for _ in range(5)]
    for word, job_id in zip(("SUCCESS", "ERROR", "CANCELLED", "SUCCESS", "SUCCESS"), old, strict=True):
        change(jobs, job_id, status=word, completed_at=now - 3 * DAY)
    part = shard(jobs, old[0], status="SUCCESS", completed_at=now - 3 * DAY)
    recent, waiting = submit(jobs), submit(jobs)
    change(jobs, recent, status="SUCCESS", completed_at=now - DAY)
    change(jobs, waiting, created_at=now - 9 * DAY)
    assert executors.expire(2.5) == 5
    assert executors.expire(2.5) == 0
    assert all(row(jobs, job_id) is None for job_id in (*old, part))
    assert row(jobs, recent)
    assert row(jobs, waiting)


def test_another_host_makes_sqlite_impossible_and_a_name_taken(jobs: Jobs, executors: WorkerRegistry, monkeypatch):
    executors.heartbeat("one")
    executors.check("one")
    executors.check("two")
    monkeypatch.setattr(module, "machine", lambda: "another")
    expected = "SQLite serves one host" if jobs.database.sqlite else "GAUNTLET_EXECUTOR=one: a worker on host"
    with pytest.raises(SettingsError, match=expected):
        executors.check("one")
    if not jobs.database.sqlite:
        executors.check("two")
        executors.check(None)
    with jobs.database.begin() as connection:
        connection.execute(sa.update(EXECUTORS).values(seen_ms=EXECUTORS.c.seen_ms - 11_000))
    executors.check("one")  # moved here, or restored


def test_a_report_is_wanted_until_it_has_ended_is_cancelled_or_has_failed(jobs: Jobs):
    report = submit(jobs)
    assert jobs.wanted(report)
    assert not jobs.wanted("none")
    jobs.set_attributes(report, cancel=True)
    assert not jobs.wanted(report)
    other = submit(jobs)
    jobs.set_attributes(other, failed="why")
    assert not jobs.wanted(other)
    ended = submit(jobs)
    change(jobs, ended, status="MAX_RECOVERY_ATTEMPTS_EXCEEDED")
    assert not jobs.wanted(ended)


def test_only_shards_that_nobody_has_begun_are_dropped(jobs: Jobs):
    report, other = submit(jobs), submit(jobs)
    waiting, running, done = shard(jobs, report), shard(jobs, report, status="PENDING"), shard(jobs, report)
    change(jobs, done, status="SUCCESS")
    elsewhere = shard(jobs, other)
    jobs.set_attributes(running, done=3.0)
    jobs.cancel_waiting_shards(report)
    parts = jobs.parts(report)
    assert {part: parts[part].word for part in parts} == {waiting: "CANCELLED", running: "PENDING", done: "SUCCESS"}
    assert [parts[part].done(5.0) for part in (waiting, running, done)] == [0, 3, 5]
    assert jobs.parts(other)[elsewhere].active
    assert row(jobs, report).status == row(jobs, other).status == "ENQUEUED"


def test_a_report_that_was_begun_is_cancelled_by_the_worker_that_takes_it_again(jobs: Jobs):
    """It waits for another worker, and shards of it may still be computed."""
    begun, untouched = submit(jobs), submit(jobs)
    jobs.set_attributes(begun, progress=0.0)
    assert jobs.cancel(untouched).status is Status.CANCELLED
    assert jobs.cancel(begun).status is Status.QUEUED
    jobs.confirm_cancelled(begun)
    assert jobs.get(begun).status is Status.CANCELLED


def test_deleting_a_report_deletes_its_shards(jobs: Jobs):
    report = submit(jobs)
    part = shard(jobs, report, status="SUCCESS")
    change(jobs, report, status="SUCCESS")
    jobs.delete(report)
    assert row(jobs, report) is row(jobs, part) is None


def test_pages_of_reports_hold_no_shards(jobs: Jobs):
    reports = [submit(jobs) for _ in range(3)]
    shard(jobs, reports[0])
    first, cursor = jobs.page(None, 2, None)
    rest, end = jobs.page(None, 2, cursor)
    assert {job.id for job in first + rest} == set(reports)
    assert end is None


@pytest.mark.postgres
def test_a_database_without_tables_says_so(postgres: Postgres):
    jobs = Jobs(postgres.database(f"empty-{uuid.uuid4()}"))
    with pytest.raises(ServiceError, match="no worker has started") as refused:
        jobs.backlog()
    assert refused.value.code is Code.JOBS_UNAVAILABLE
    jobs.close()


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path):
    for url in (f"sqlite:///{tmp_path / 'none.sqlite'}", f"postgresql://nobody@127.0.0.1:{free_port()}/none"):
        database = Database(url)
        with pytest.raises(ServiceError) as refused:
            WorkerRegistry(database).heartbeat("one")
        assert refused.value.code is Code.JOBS_UNAVAILABLE
        database.close()
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("url", ["mysql://root:secret@host/jobs", "secret", "postgres://u:secret@host/jobs"])
def test_other_databases_are_refused_without_repeating_a_password(url: str):
    with pytest.raises(SettingsError, match="GAUNTLET_DATABASE_URL must begin with postgresql://") as refused:
        create_engine(url)
    assert "secret" not in str(refused.value)


def test_a_machine_is_the_same_for_all_its_processes():
    assert machine() == machine() != ""
    assert WORKFLOW != SHARD
