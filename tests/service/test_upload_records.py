"""What users brought: records in the job database, on SQLite and on a real PostgreSQL, and files in a folder."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from gauntlet.artifacts import evaluation_sets
from gauntlet.errors import ModelFailed
from service.errors import Code, ServiceError
from service.jobs.database import Database
from service.sql import SILENT, create_engine, in_turn
from service.uploads.evalset_previews import EvalSetPreviews
from service.uploads.evalsets import EvaluationSets
from service.uploads.file_storage import FORGOTTEN, Folder
from service.uploads.records import UploadRecords
from tests.service.conftest import PATIENCE, ROOT, free_port
from tests.service.databases import Postgres
from tests.service.stored import SHA256, add, uploads

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
def test_changes_wait_for_each_other(fresh: Callable[[], str], tmp_path: Path, change: str):
    """A file that one adds again while another deletes its last name would be lost."""
    storage, others = UploadRecords(url := fresh(), Folder(tmp_path / "store")), create_engine(url)
    add(storage, "first")
    work = {"add": lambda: add(storage, "again"), "remove": lambda: storage.remove("model", "x")}
    with ThreadPoolExecutor(1) as pool:
        with others.begin() as connection:
            in_turn(connection)
            connection.execute(sa.text("UPDATE gauntlet_uploads SET record = record"))  # on SQLite that is the turn
            waiting = pool.submit(work[change])
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(PATIENCE)
    storage.files.open(SHA256).close()
    storage.close()
    others.dispose()


@pytest.mark.parametrize("user", [uploads, Database])
def test_many_processes_may_be_the_first_at_once(
    fresh: Callable[[], str], user: Callable[[str], UploadRecords | Database]
):
    for _ in range(ROUNDS):
        users = [user(url) for url in [fresh()] * TOGETHER]
        barrier = threading.Barrier(TOGETHER)

        def begin(one: UploadRecords | Database, barrier: threading.Barrier = barrier) -> None:
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
    storage = uploads(f"postgresql://somebody:secret@127.0.0.1:{free_port()}/jobs")
    with pytest.raises(ServiceError, match="the service's log says why") as caught:
        storage.records("model")
    assert "127.0.0.1" not in str(caught.value)
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_a_pool_without_a_free_connection_is_a_503(
    fresh: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage = UploadRecords(fresh(), Folder(tmp_path / "store"))
    add(storage, "first")
    pool = storage._tables._database.engine.pool
    assert isinstance(pool, sa.QueuePool)
    monkeypatch.setattr(pool, "_timeout", 0.1)
    with contextlib.ExitStack() as stack:
        for _ in range(pool.size() + pool._max_overflow):
            stack.enter_context(storage._tables._database.engine.connect())
        with pytest.raises(ServiceError, match="all connections") as caught:
            storage.record("model", "first")
    assert caught.value.code is Code.JOBS_UNAVAILABLE
    assert storage.record("model", "first") == "{}"
    storage.close()


def test_a_damaged_set_hides_no_other_and_can_be_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    (tmp_path / "jobs.sqlite").touch()
    storage = UploadRecords(url, Folder(tmp_path / "store"))
    sets = EvaluationSets([], storage)
    images, labels = np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1])
    good = evaluation_sets.pack(images, labels, ("a", "b"), "mine")
    add(storage, "good", good, "evalset")
    add(storage, "bad", b"anything", "evalset")
    assert [found.name for found in EvalSetPreviews(sets).usable()] == ["good"]
    assert "bad: is not an evaluation set" in caplog.text
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
    storage = uploads(f"sqlite:///{path}")
    assert storage.record("model", "nobody") is None
    assert storage.records("evalset") == {}
    writer.execute("ROLLBACK")
    assert writer.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    writer.close()
    storage.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_goes_with_the_last_name_of_it(fresh: Callable[[], str], tmp_path: Path):
    storage, other = UploadRecords(fresh(), Folder(tmp_path / "store")), hashlib.sha256(b"other").hexdigest()
    add(storage, "first")
    add(storage, "second")
    add(storage, "third", b"other")
    assert names(tmp_path / "store") == sorted([SHA256, other])
    storage.remove("model", "first")
    storage.files.open(SHA256).close()
    storage.remove("model", "second")
    storage.remove("model", "nobody")
    assert names(tmp_path / "store") == [other]
    storage.close()


def test_what_is_refused_leaves_no_file(fresh: Callable[[], str], tmp_path: Path):
    storage = UploadRecords(fresh(), Folder(tmp_path / "store"))
    add(storage, "first")
    for name, limit, code in (("first", 9, Code.NAME_TAKEN), ("second", 1, Code.UPLOADS_FULL)):
        with pytest.raises(ServiceError) as caught:
            add(storage, name, b"other", limit=limit)
        assert caught.value.code is code
    with pytest.raises(ModelFailed), storage.files.draft() as draft:
        storage.add("model", "second", SHA256, draft, "{}", 9)
    with pytest.raises(ServiceError):
        storage.check_room("model", 1)
    assert names(tmp_path / "store") == [SHA256]
    assert list(storage.records("model")) == ["first"]
    storage.close()


def test_what_a_killed_process_left_behind_is_swept(fresh: Callable[[], str], tmp_path: Path):
    storage = UploadRecords(fresh(), files := Folder(tmp_path / "store"))
    add(storage, "first")
    left = files.path / hashlib.sha256(b"left").hexdigest()
    left.write_bytes(b"left")
    draft = files.path / ".draft-left"
    draft.touch()
    storage.sweep()
    assert left.exists()  # it may be about to get a name
    long_ago = time.time() - FORGOTTEN - 60
    for path in files.path.iterdir():
        os.utime(path, (long_ago, long_ago))
    storage.sweep()
    assert names(files.path) == [SHA256]
    storage.close()


def test_no_thread_finds_sqlalchemy_half_imported():
    """dbos brings the ORM, and is imported by a thread after the start: a statement made meanwhile failed."""
    command = "import service.sql, sys; sys.exit('sqlalchemy.orm.exc' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False, cwd=ROOT).returncode == 0
