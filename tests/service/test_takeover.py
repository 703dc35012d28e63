"""When a worker counts as dead, by what this machine knows and by its silence. Without a clock or a worker."""

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.errors import Code, ServiceError
from service.jobs import takeover
from service.jobs.takeover import GAP, SILENT, SilenceDetector, has_ended, hold_name, remove_stale_locks
from service.settings import Settings, SettingsError
from service.worker import WorkerLoop
from tests.service.conftest import ROOT


def watch(silence: SilenceDetector, signs: dict[str, int | None], start: float, end: float) -> list[str]:
    """What a look each second finds at last."""
    found: list[str] = []
    for second in range(int(start), int(end) + 1):
        found = silence.silent(signs, float(second))
    return found


def test_who_shows_no_new_sign_for_thirty_seconds_is_dead():
    silence = SilenceDetector()
    assert watch(silence, {"one": 5, "none": None}, 100, 100 + SILENT - 1) == []
    assert watch(silence, {"one": 5, "none": None}, 100 + SILENT, 100 + SILENT) == ["one", "none"]


def test_a_new_sign_is_life_whatever_the_clock_says():
    silence = SilenceDetector()
    watch(silence, {"one": 5}, 100, 120)
    assert watch(silence, {"one": 4}, 121, 121 + SILENT - 1) == []
    assert watch(silence, {"one": 4}, 121 + SILENT, 121 + SILENT) == ["one"]


def test_who_was_away_has_seen_nobody_be_silent():
    """The database was away for all: nobody could show a sign."""
    silence = SilenceDetector()
    watch(silence, {"one": 5}, 100, 120)
    back = 120 + SILENT + GAP
    assert silence.silent({"one": 5}, back) == []
    assert watch(silence, {"one": 5}, back + 1, back + SILENT) == ["one"]


def test_who_no_longer_holds_work_is_forgotten():
    silence = SilenceDetector()
    watch(silence, {"one": 5}, 100, 120)
    silence.silent({}, 121)
    assert watch(silence, {"one": 5}, 122, 122 + SILENT - 1) == []


def test_a_held_name_is_alive_and_a_free_one_has_ended(tmp_path: Path):
    assert not has_ended(tmp_path, "elsewhere")
    with hold_name(tmp_path, "one"):
        assert not has_ended(tmp_path, "one")
        remove_stale_locks(tmp_path)
        assert (tmp_path / "worker-one.lock").exists()
    assert not (tmp_path / "worker-one.lock").exists()
    (tmp_path / "worker-dead.lock").touch()  # killed: the lock went with the process
    assert has_ended(tmp_path, "dead")
    remove_stale_locks(tmp_path)
    assert not (tmp_path / "worker-dead.lock").exists()


def test_a_name_is_held_by_one_worker(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(takeover, "PATIENCE", 0.0)
    with (
        hold_name(tmp_path, "one"),
        pytest.raises(SettingsError, match="a worker named one"),
        hold_name(tmp_path, "one"),
    ):
        raise AssertionError("two workers hold one name")


def test_a_file_removed_between_opening_and_locking_is_made_again(tmp_path: Path, monkeypatch):
    lock, removed = fcntl.flock, []

    def first_removed(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(True)
            (tmp_path / "worker-one.lock").unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", first_removed)
    with hold_name(tmp_path, "one"):
        assert (tmp_path / "worker-one.lock").exists()


def test_the_lock_ends_with_a_killed_process(tmp_path: Path):
    code = "import os, sys, pathlib; from service.jobs.takeover import hold_name\n"
    code += "with hold_name(pathlib.Path(sys.argv[1]), 'one'): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False).returncode == 9
    assert has_ended(tmp_path, "one")


class Crew:
    """A registry of workers that remembers what it was asked."""

    def __init__(self, **signs: int | None) -> None:
        self.signs, self.taken, self.expired, self.away, self.elsewhere = signs, [], [], False, False

    def check(self, executor: str) -> None:
        if self.elsewhere:
            raise SettingsError("another host")

    def heartbeat(self, executor: str) -> None:
        if self.away:
            raise ServiceError(Code.JOBS_UNAVAILABLE, "away")

    def holders(self) -> dict[str, int | None]:
        return self.signs

    def take_over(self, executor: str) -> int:
        self.taken.append(executor)
        self.signs.pop(executor)
        return 1

    def adopt(self) -> int:
        return 0

    def expire(self, days: float) -> int:
        self.expired.append(days)
        return 0


def worker_loop(tmp_path: Path, crew: Any, **settings: Any) -> WorkerLoop:
    return WorkerLoop(Settings(state=tmp_path, **settings), "me", crew)


def test_the_ended_are_replaced_at_once_the_silent_later_and_oneself_never(tmp_path: Path):
    crew = Crew(me=1, silent=1, dead=1)
    (tmp_path / "worker-dead.lock").touch()
    (tmp_path / "worker-me.lock").touch()
    loop = worker_loop(tmp_path, crew)
    loop.turn(100.0)
    assert crew.taken == ["dead"]
    for second in range(101, 131):
        loop.turn(float(second))
    assert crew.taken == ["dead", "silent"]
    assert set(crew.signs) == {"me"}


def test_nobody_is_replaced_for_the_database_was_away(tmp_path: Path):
    crew = Crew(other=1)
    loop = worker_loop(tmp_path, crew)
    for second in range(100, 160):
        crew.away = 110 <= second < 150
        if crew.away:
            with pytest.raises(ServiceError):
                loop.turn(float(second))
        else:
            loop.turn(float(second))
    assert crew.taken == []


def test_a_worker_ends_when_another_host_comes_that_it_cannot_share_with(tmp_path: Path):
    crew = Crew()
    loop = worker_loop(tmp_path, crew)
    loop.turn(0.0)
    crew.elsewhere = True
    with pytest.raises(SettingsError):
        loop.turn(1.0)


def test_old_reports_are_looked_for_each_hour_if_they_are_to_go(tmp_path: Path):
    crew, keeper = Crew(), Crew()
    loop, keeping = worker_loop(tmp_path, crew, keep_days=30), worker_loop(tmp_path, keeper)
    for second in (0.0, 1.0, 3599.0, 3600.0, 3601.0):
        loop.turn(second)
        keeping.turn(second)
    assert crew.expired == [30, 30]
    assert keeper.expired == []
    assert list(tmp_path.iterdir()) == []
