"""The state folder outlives a release and a disk: an older one's is taken up, and a backup brings all of it back.

``state-1.sql.gz`` is the job database of the release whose jobs had version 1, killed in the middle of its work: one
report that succeeded, one that was being computed, one that waited.
"""

import contextlib
import gzip
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gauntlet.report.schema import Report
from service.jobs.queue import OLDER
from tests.service.conftest import LONG_REPORT, SHORT_REPORT, Server, build_models, wait_for
from tests.service.databases import Postgres

pytestmark = pytest.mark.slow

OLD = Path(__file__).parent / "state-1.sql.gz"


@contextlib.contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Server]:
    if not (folder / "models").exists():
        build_models(folder)
    server = Server(folder, settings)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def completed(server: Server, report: str) -> bool:
    """With a report as this release writes them."""
    status = server.finished(report)
    return status["status"] == "succeeded" and Report.model_validate(status["report"]) is not None


def test_the_state_of_an_older_release_opens_and_its_jobs_are_completed(tmp_path: Path):
    (tmp_path / "state").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "jobs.sqlite")) as database:
        database.executescript(gzip.decompress(OLD.read_bytes()).decode())
        rows = database.execute("select status, workflow_uuid, application_version from workflow_status").fetchall()
    old = {status: report for status, report, _ in rows}
    assert old.keys() == {"SUCCESS", "PENDING", "ENQUEUED"}
    assert {version for *_, version in rows} <= set(OLDER)
    with serving(tmp_path) as server:
        assert server.submit(SHORT_REPORT, **{"Idempotency-Key": "done"}) == old["SUCCESS"]
        assert server.finished(old["SUCCESS"])["report"]["schema_version"] == 1  # as it was written
        assert completed(server, old["PENDING"])
        assert completed(server, old["ENQUEUED"])
        pages = {status: server.client.get(f"/robustness-report/{report}/html") for status, report in old.items()}
        assert pages["SUCCESS"].json()["error"]["code"] == "report_outdated"
        assert "<html" in pages["PENDING"].text
        assert "<html" in pages["ENQUEUED"].text


def test_a_backup_of_sqlite_brings_back_reports_and_jobs_under_way(tmp_path: Path):
    with serving(tmp_path) as server:
        done = server.submit(SHORT_REPORT)
        result = server.finished(done)
        under_way = server.submit(LONG_REPORT)
        wait_for(lambda: len(server.shards(under_way)) >= 3)
        state, backup = tmp_path / "state", tmp_path / "backup.sqlite"
        with contextlib.closing(sqlite3.connect(state / "jobs.sqlite")) as source, sqlite3.connect(backup) as target:
            source.backup(target)  # which is what ``.backup`` of the command line does
        kept = server.shards(under_way)
        server.stop(signal.SIGKILL)
    shutil.rmtree(state)
    state.mkdir()
    backup.rename(state / "jobs.sqlite")
    with serving(tmp_path) as server:
        assert server.status(done) == result
        assert completed(server, under_way)
        assert server.shards(under_way).items() >= kept.items()


@pytest.mark.postgres
def test_a_backup_of_postgresql_does_too(tmp_path: Path, postgres: Postgres):
    url, dump = postgres.database("before"), tmp_path / "dump"
    with serving(tmp_path, database_url=url) as server:
        done = server.submit(SHORT_REPORT)
        result = server.finished(done)
        under_way = server.submit(LONG_REPORT)
        wait_for(lambda: server.status(under_way)["progress"] > 0.1)
        subprocess.run([postgres.bin / "pg_dump", "--format=custom", f"--file={dump}", url], check=True)
    url = postgres.database("after")
    subprocess.run([postgres.bin / "pg_restore", "--exit-on-error", f"--dbname={url}", dump], check=True)
    with serving(tmp_path, database_url=url) as server:
        assert server.status(done) == result
        assert completed(server, under_way)
