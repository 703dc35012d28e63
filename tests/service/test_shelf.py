"""What users brought, in the job database, on SQLite and on a real PostgreSQL."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.jobs.database import Database
from service.models.shelf import Shelf

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
