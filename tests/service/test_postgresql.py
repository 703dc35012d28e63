"""What a PostgreSQL that has stopped answering, or refuses, does to who asks: an error in time, and nothing else."""

import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from dbos import DBOS

from service import sql
from service.app import routes
from service.errors import Code, ServiceError
from service.jobs.queue import Jobs
from service.jobs.queue_metrics import JobMetrics
from service.model_catalog import Catalog
from service.observability import metrics
from service.postgresql import NoAnswer, Silence
from service.settings import Settings
from service.sql import Connections, create_engine, in_turn, patiently
from service.uploads.manifests import UploadedManifests
from tests import tiny
from tests.service.conftest import PATIENCE
from tests.service.databases import Postgres
from tests.service.in_process import Caller, door, told
from tests.service.stored import uploads

SOON = 0.3  # seconds: a server that is stopped answers never


@contextlib.contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    """While every process of PostgreSQL stands still, its connections open."""
    parent = psutil.Process(int((server.folder / "data" / "postmaster.pid").read_text().split()[0]))
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


# The calls


@pytest.fixture
def web(postgres: Postgres, settings, tmp_path) -> Iterator[Caller]:
    """The calls that read uploads and jobs, on a job database that a worker has seen."""
    url = postgres.database(f"stopped-{uuid.uuid4()}")
    settings(database_url=url)
    DBOS.migrate(url)
    jobs, storage = Jobs(url, SOON), uploads(url, patience=SOON)
    jobs.database.migrate()
    tiny.linear(tmp_path / "models" / "artifacts" / "linear")
    catalog = Catalog(Settings(models=tmp_path / "models"), UploadedManifests(storage))
    exposed = metrics.exposed(JobMetrics(jobs.backlog, jobs.workers, tmp_path), catalog.known)
    app = routes()
    app.state.services = SimpleNamespace(jobs=jobs, catalog=catalog, openings=storage.openings, metrics=exposed)
    yield Caller(door(app))
    jobs.close()
    storage.close()


@pytest.mark.postgres
def test_calls_are_answered_while_postgresql_stands_still_and_work_again_after(web: Caller, postgres: Postgres):
    paths = ["/models", "/robustness-report", f"/robustness-report/{uuid.uuid4()}"]
    before = [web("GET", path).status_code for path in paths]
    assert before == [200, 200, 404]
    with stopped(postgres), ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda path: web("GET", path), [*paths, "/metrics"] * 2, timeout=PATIENCE)
        *refused, scraped = list(answers)[:4]
        assert [told(answer)["code"] for answer in refused] == ["jobs_unavailable"] * 3
        assert scraped.status_code == 200
        assert "gauntlet_job_database_up 0.0" in scraped.text
    while told_code(web("GET", "/models")) == "jobs_unavailable":  # until it is asked again
        pass
    assert [web("GET", path).status_code for path in paths] == before
    assert "gauntlet_job_database_up 1.0" in web("GET", "/metrics").text


def told_code(answer: Any) -> str | None:
    return None if answer.status_code == 200 else told(answer)["code"]


# The connections


@pytest.fixture
def engine(postgres: Postgres) -> Iterator[sa.Engine]:
    made = create_engine(postgres.database(f"timed-{uuid.uuid4()}"), SOON)
    yield made
    made.dispose()


@pytest.mark.postgres
def test_a_statement_under_way_ends_too_and_its_connection_with_it(engine: sa.Engine, postgres: Postgres):
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        with stopped(postgres), pytest.raises(sa.exc.OperationalError, match="no answer within"):
            connection.execute(sa.text("SELECT 2"))
        assert connection.invalidated
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 3")) == 3


@pytest.mark.postgres
def test_a_slow_statement_is_nobody_elses_fault(engine: sa.Engine):
    """Only who is asked whether it is there at all, and says nothing, counts as silent."""
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError, match="no answer within"):
        connection.execute(sa.text("SELECT pg_sleep(60)"))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 3")) == 3


@pytest.mark.postgres
def test_what_may_take_long_is_given_time_and_the_rest_is_not(engine: sa.Engine):
    with engine.connect() as connection:
        with patiently(connection):
            connection.execute(sa.text("SELECT pg_sleep(:s)"), {"s": 2 * SOON})
        with pytest.raises(sa.exc.OperationalError, match="no answer within"):
            connection.execute(sa.text("SELECT pg_sleep(60)"))


@pytest.mark.postgres
def test_who_waits_for_a_turn_waits_for_longer_than_for_an_answer(engine: sa.Engine):
    def take() -> None:
        with engine.begin() as connection:
            in_turn(connection)

    with ThreadPoolExecutor(1) as pool, engine.begin() as connection:
        in_turn(connection)
        waiting = pool.submit(take)
        with pytest.raises(TimeoutError):
            waiting.result(2 * SOON)
        connection.rollback()
        waiting.result(PATIENCE)


@pytest.mark.postgres
def test_the_server_too_ends_a_statement_that_nobody_waits_for(engine: sa.Engine, postgres: Postgres):
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == f"{sql.TURN_S:.0f}s"
    patient = create_engine(postgres.database(f"worker-{uuid.uuid4()}"))
    with patient.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "0"
    patient.dispose()


@pytest.mark.postgres
def test_a_connection_that_the_server_has_closed_is_made_anew(engine: sa.Engine):
    with engine.connect() as connection:
        own = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with psycopg.connect(engine.url.set(drivername="postgresql").render_as_string(False), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [own])
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != own


def test_of_a_silent_server_one_asks_again_after_a_while_and_others_fail_at_once():
    now = [0.0]
    silence = Silence(4, lambda: now[0])
    silence.check()
    silence.begin()
    with pytest.raises(NoAnswer):
        silence.check()
    now[0] = 4
    silence.check()  # this one asks
    with pytest.raises(NoAnswer):
        silence.check()
    silence.end()
    silence.check()
    silence.check()


@pytest.mark.postgres
def test_a_right_that_is_missing_is_no_missing_table(postgres: Postgres):
    url = postgres.database(f"rights-{uuid.uuid4()}")
    connections = Connections(url)
    with connections.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE closed (x int)"))
        connection.execute(sa.text(f'CREATE ROLE "{connections.engine.url.database}"'))

    def read(table: str) -> None:
        with connections.using(), connections.engine.begin() as connection:
            connection.execute(sa.text(f'SET ROLE "{connections.engine.url.database}"'))
            connection.execute(sa.text(f"SELECT * FROM {table}"))

    for table, message in (("closed", "does not let the service do this"), ("absent", "no tables of this release")):
        with pytest.raises(ServiceError, match=message) as refused:
            read(table)
        assert refused.value.code is Code.JOBS_UNAVAILABLE
    connections.close()
