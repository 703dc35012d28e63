"""What the service keeps on the disk is for its user alone, whatever was there before."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.private_files import keep_private


@pytest.fixture(autouse=True)
def _everybody_may_read() -> Iterator[None]:
    """What this process makes, until it is told otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("where", ["state", "elsewhere"])
def test_sqlite_its_log_and_its_folder_become_private_and_stay_so(tmp_path: Path, where: str):
    state, folder = tmp_path / "state", tmp_path / where
    for path in {state, folder}:
        path.mkdir(mode=0o755)
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE things (thing)")
        database.commit()
        beside = [folder / f"jobs.sqlite{end}" for end in ("", "-wal", "-shm")]
        assert [mode(path) for path in beside] == [0o644] * 3
        keep_private(state, f"sqlite:///{folder / 'jobs.sqlite'}")
        assert [mode(path) for path in beside] == [0o600] * 3
    assert mode(state) == 0o700
    assert not (folder / "jobs.sqlite-wal").exists()
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as database:
        database.execute("INSERT INTO things VALUES (1)")
        assert [mode(path) for path in beside] == [0o600] * 3


def test_what_is_made_from_then_on_is_private(tmp_path: Path):
    keep_private(tmp_path, "")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert [mode(tmp_path / name) for name in ("folder", "file")] == [0o700, 0o600]


@pytest.mark.parametrize("url", ["", "postgresql://user:secret@host/jobs", "sqlite://", "no url"])
def test_a_folder_that_is_everybodys_and_one_that_is_not_there_stay_as_they_are(tmp_path: Path, url: str):
    tmp_path.chmod(0o1777)
    keep_private(tmp_path, url)
    keep_private(tmp_path / "absent", url)
    assert mode(tmp_path) == 0o1777
    assert not (tmp_path / "absent").exists()


def test_special_bits_of_a_folder_stay(tmp_path: Path):
    tmp_path.chmod(0o2775)
    keep_private(tmp_path, "")
    assert mode(tmp_path) == 0o2700
