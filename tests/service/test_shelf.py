"""What users brought, in the job database, on SQLite and on a real PostgreSQL."""

import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from gauntlet import evalset
from gauntlet.sandbox.nursery import Limits, Nursery
from service.errors import ServiceError
from service.jobs.database import SILENT, Database, create_engine, in_turn
from service.models.evalsets import EvalSets
from service.models.shelf import Shelf
from tests.service.conftest import free_port
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
    shelf, others = Shelf(url := fresh()), create_engine(url)
    shelf.add("model", "first", b"bytes", "{}", 9)
    work = {"add": lambda: shelf.add("model", "again", b"bytes", "{}", 9), "remove": lambda: shelf.remove("model", "x")}
    with ThreadPoolExecutor(1) as pool:
        with others.begin() as connection:
            in_turn(connection)
            connection.execute(sa.text("UPDATE gauntlet_uploads SET record = record"))  # on SQLite that is the turn
            waiting = pool.submit(work[change])
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(30)
    assert shelf.blob(hashlib.sha256(b"bytes").hexdigest()) == b"bytes"
    shelf.close()
    others.dispose()


@pytest.mark.parametrize("user", [Shelf, Database])
def test_many_processes_may_be_the_first_at_once(fresh: Callable[[], str], user: type[Shelf | Database]):
    for _ in range(ROUNDS):
        users = [user(url) for url in [fresh()] * TOGETHER]
        barrier = threading.Barrier(TOGETHER)

        def begin(one: Shelf | Database, barrier: threading.Barrier = barrier) -> None:
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
    shelf = Shelf(f"postgresql://somebody:secret@127.0.0.1:{free_port()}/jobs")
    with pytest.raises(ServiceError, match="the service's log says why") as caught:
        shelf.records("model")
    assert "127.0.0.1" not in str(caught.value)
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_a_damaged_set_hides_no_other_and_can_be_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    (tmp_path / "jobs.sqlite").touch()
    shelf = Shelf(url)
    sets = EvalSets({}, 9, shelf, Nursery(Limits(memory=2**31)))
    images, labels = np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1])
    good = evalset.pack(images, labels, ("a", "b"), "mine")
    shelf.add("evalset", "good", good, hashlib.sha256(good).hexdigest(), 9)
    shelf.add("evalset", "bad", b"anything", "0" * 64, 9)
    assert [found.name for found in sets.usable()] == ["good"]
    assert "bad is missing from the job database or damaged" in caplog.text
    sets.check("bad", "name")
    sets.remove("bad")
    with pytest.raises(ServiceError, match="bad"):
        sets.check("bad", "name")
    shelf.close()
