"""The file in which processes count together: it opens whoever else opens it at this moment."""

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

from service import sql
from service.auth import shared_file

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER)"


def test_a_file_that_another_process_is_opening_is_opened_after_it(tmp_path: Path, monkeypatch):
    other = sqlite3.connect(tmp_path / "file", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        other.execute("COMMIT")

    monkeypatch.setattr(sql, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=wait))
    monkeypatch.setattr(shared_file, "BUSY", 0.01)
    with closing(other), closing(shared_file.connect(tmp_path / "file", SCHEMA)) as opened:
        assert opened.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert len(waits) == 1
