"""What users brought, in the job database, on SQLite and on a real PostgreSQL."""

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from gauntlet.artifacts import evaluation_sets
from service.errors import Code, ServiceError
from service.jobs.database import Database
from service.sql import SILENT, create_engine, in_turn
from service.uploads.evalset_previews import EvalSetPreviews
from service.uploads.evalsets import EvaluationSets
from service.uploads.storage import UploadStorage
from tests.service.conftest import PATIENCE, ROOT, free_port
from tests.service.databases import Postgres

TOGETHER = 8
ROUNDS = 3  # one is enough to fail nearly always


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes URLs of databases without a table."""

    def make() -> str:
        if request.param == "postgres":
            return request.getfixturevalue("postgres").database(f"fresh-{uuid.uuid4()}")
        path = tmp_path / f"{uuid.uuid4()}.sqlite"
        path.touch()
        return f"sqlite:///{path}"

    return make


@pytest.mark.parametrize("change", ["add", "remove"])
def test_changes_wait_for_each_other(fresh: Callable[[], str], change: str):
    """Bytes that one adds again while another deletes their last name would be lost."""
    storage, others = UploadStorage(url := fresh()), create_engine(url)
    storage.add("model", "first", b"bytes", "{}", 9)
    work = {
        "add": lambda: storage.add("model", "again", b"bytes", "{}", 9),
        "remove": lambda: storage.remove("model", "x"),
    }
    with ThreadPoolExecutor(1) as pool:
        with others.begin() as connection:
            in_turn(connection)
            connection.execute(sa.text("UPDATE gauntlet_uploads SET record = record"))  # on SQLite that is the turn
            waiting = pool.submit(work[change])
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(PATIENCE)
    assert storage.blob(hashlib.sha256(b"bytes").hexdigest()) == b"bytes"
    storage.close()
    others.dispose()


@pytest.mark.parametrize("user", [UploadStorage, Database])
def test_many_processes_may_be_the_first_at_once(fresh: Callable[[], str], user: type[UploadStorage | Database]):
    for _ in range(ROUNDS):
        users = [user(url) for url in [fresh()] * TOGETHER]
        barrier = threading.Barrier(TOGETHER)

        def begin(one: UploadStorage | Database, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            if isinstance(one, Database):
                one.migrate()
            else:
                assert one.records("model") == {}

        try:
            with ThreadPoolExecutor(TOGETHER) as pool:
                list(pool.map(begin, users))
        finally:
            for one in users:
                one.close()


@pytest.mark.postgres
def test_a_postgresql_that_falls_silent_is_noticed(postgres: Postgres):
    engine = create_engine(postgres.database("silent"))
    with engine.connect() as connection:
        told = connection.connection.driver_connection.info.get_parameters()
    assert {name: int(told[name]) for name in SILENT} == SILENT
    engine.dispose()
    url = sa.make_url(postgres.database("heard")).update_query_dict({"keepalives_idle": "99"})
    own = create_engine(url.render_as_string(hide_password=False))
    with own.connect() as connection:
        assert connection.connection.driver_connection.info.get_parameters()["keepalives_idle"] == "99"
    own.dispose()


def test_only_the_log_has_the_words_of_the_driver(caplog: pytest.LogCaptureFixture):
    storage = UploadStorage(f"postgresql://somebody:secret@127.0.0.1:{free_port()}/jobs")
    with pytest.raises(ServiceError, match="the service's log says why") as caught:
        storage.records("model")
    assert "127.0.0.1" not in str(caught.value)
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_a_pool_without_a_free_connection_is_a_503(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch):
    storage = UploadStorage(fresh())
    storage.add("model", "first", b"bytes", "{}", 9)
    pool = storage._database.engine.pool
    assert isinstance(pool, sa.QueuePool)
    monkeypatch.setattr(pool, "_timeout", 0.1)
    with contextlib.ExitStack() as stack:
        for _ in range(pool.size() + pool._max_overflow):
            stack.enter_context(storage._database.engine.connect())
        with pytest.raises(ServiceError, match="all connections") as caught:
            storage.record("model", "first")
    assert caught.value.code is Code.JOBS_UNAVAILABLE
    assert storage.record("model", "first") == "{}"
    storage.close()


def test_a_damaged_set_hides_no_other_and_can_be_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    (tmp_path / "jobs.sqlite").touch()
    storage = UploadStorage(url)
    sets = EvaluationSets([], storage)
    images, labels = np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1])
    good = evaluation_sets.pack(images, labels, ("a", "b"), "mine")
    storage.add("evalset", "good", good, hashlib.sha256(good).hexdigest(), 9)
    storage.add("evalset", "bad", b"anything", "0" * 64, 9)
    assert [found.name for found in EvalSetPreviews(sets).usable()] == ["good"]
    assert "bad is missing from the job database or damaged" in caplog.text
    sets.check("bad", "name")
    sets.remove("bad")
    with pytest.raises(ServiceError, match="bad"):
        sets.check("bad", "name")
    storage.close()


def test_who_reads_waits_for_no_writer_and_makes_no_tables(tmp_path: Path):
    """Right after the start, while a worker makes the tables of DBOS, a name that nobody uploaded is simply unknown."""
    path = tmp_path / "jobs.sqlite"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("BEGIN EXCLUSIVE")
    storage = UploadStorage(f"sqlite:///{path}")
    assert storage.record("model", "nobody") is None
    assert storage.records("evalset") == {}
    assert storage.blob("0" * 64) is None
    writer.execute("ROLLBACK")
    assert writer.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    writer.close()
    storage.close()


def test_no_thread_finds_sqlalchemy_half_imported():
    """dbos brings the ORM, and is imported by a thread after the start: a statement made meanwhile failed."""
    command = "import service.sql, sys; sys.exit('sqlalchemy.orm.exc' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False, cwd=ROOT).returncode == 0
