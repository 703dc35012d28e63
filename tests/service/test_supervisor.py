"""The workers that run with the service: how many, each with what."""

import os
from pathlib import Path
from typing import Any

import pytest
from dbos import DBOS

from gauntlet.runtime import core_count
from service.jobs import worker_registry
from service.jobs.database import Database
from service.jobs.worker_registry import WorkerRegistry
from service.observability.logs import LOGGER
from service.settings import Settings, SettingsError
from service.supervisor import LOOK, STABLE, WorkerKeeper, begin_anew, check, start_worker
from tests.service.conftest import build_models


class Started:
    """A process that is told when it has ended."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment, self.status = environment, None

    def poll(self) -> int | None:
        return self.status


class Starter:
    """Starts nothing, and holds what it was asked for."""

    def __init__(self) -> None:
        self.started: list[Started] = []

    def start(self, name: str, module: str, arguments: list[str], environment: dict[str, str], _: Path) -> Started:
        assert (name, module, arguments) == ("worker", "service.worker", ["--parent", str(os.getpid())])
        self.started.append(Started(environment))
        return self.started[-1]


@pytest.fixture
def starter(monkeypatch) -> Starter:
    monkeypatch.setattr(core_count, "available", lambda: 8)
    return Starter()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [("8", "0", "")]),
        ({"local_workers": 3}, [("2", "0", "")] * 3),
        ({"local_workers": 16}, [("1", "0", "")] * 16),
        ({"local_workers": 2, "threads": 3}, [("3", "0", "")] * 2),
        ({"local_workers": 2, "worker_port": 4000}, [("4", "4000", ""), ("4", "4001", "")]),
        ({"local_workers": 2, "executor": "a"}, [("4", "0", "a-0"), ("4", "0", "a-1")]),
        ({"executor": "a"}, [("8", "0", "a")]),
    ],
)
def test_local_workers_share_the_cores_and_nothing_else(starter: Any, settings: dict[str, Any], expected: Any):
    chosen = Settings(**settings)
    for position in range(chosen.local_workers):
        start_worker(chosen, position, starter)
    names = ("GAUNTLET_THREADS", "GAUNTLET_WORKER_PORT", "GAUNTLET_EXECUTOR")
    assert [tuple(process.environment[name] for name in names) for process in starter.started] == expected


def test_each_is_restarted_when_it_dies_later_if_it_dies_young(starter: Any):
    started = starter.started
    keepers = [WorkerKeeper(Settings(local_workers=2), position, starter) for position in range(2)]

    def look(now: float) -> int:
        for keeper in keepers:
            keeper.look(now)
        return len(started)

    assert look(100.0) == look(101.0) == 2
    started[1].status = -9
    assert look(110.0) == 2  # it died young
    assert look(110.0 + LOOK) == 3
    started[2].status = 1
    assert look(111.0) == look(111.0 + 3 * LOOK) == 3
    assert look(111.0 + 4 * LOOK) == 4
    started[0].status = 1  # after a while: not its start's fault
    assert look(100.0 + STABLE + 20) == 5


def test_a_worker_that_cannot_be_started_is_tried_again_later_each_time(starter: Any, monkeypatch, caplog):
    monkeypatch.setattr(LOGGER, "propagate", True)
    keeper, start = WorkerKeeper(Settings(), 0, starter), starter.start

    def refuse(*_: object) -> None:
        raise BlockingIOError("no process ids are left")

    monkeypatch.setattr(starter, "start", refuse)
    keeper.look(100.0)
    keeper.look(100.0 + LOOK)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["no process ids are left"] * 2
    monkeypatch.setattr(starter, "start", start)
    keeper.look(100.0 + 4 * LOOK)
    assert starter.started == []
    keeper.look(100.0 + 6 * LOOK)
    assert len(starter.started) == 1


def test_a_second_service_on_the_same_port_and_state_folder_is_refused_and_deletes_nothing(tmp_path: Path):
    settings = Settings(state=tmp_path, port=4000)
    begin_anew(settings)
    (settings.run_folder / "rates.sqlite").touch()
    with pytest.raises(SettingsError, match=rf"GAUNTLET_PORT=4000 uses GAUNTLET_STATE={tmp_path}"):
        begin_anew(settings)
    assert settings.rates_file.exists()
    begin_anew(Settings(state=tmp_path, port=4001))


def test_a_start_removes_what_the_one_before_has_left(tmp_path: Path):
    settings = Settings(state=tmp_path)
    settings.run_folder.mkdir()
    (settings.run_folder / "startup-failure").touch()
    begin_anew(settings)
    assert [path.name for path in settings.run_folder.iterdir()] == ["metrics"]


def test_a_service_on_another_host_than_the_workers_of_an_sqlite_file_does_not_start(tmp_path: Path, monkeypatch):
    build_models(tmp_path)
    settings = Settings(models=tmp_path / "models", state=tmp_path / "state")
    check(settings)
    DBOS.migrate(settings.database_url)
    database = Database(settings.database_url)
    database.migrate()
    WorkerRegistry(database).heartbeat("one")
    check(settings)
    monkeypatch.setattr(worker_registry, "machine", lambda: "another")
    with pytest.raises(SettingsError, match=r"in use by a worker on host .*postgresql://"):
        check(settings)
    database.close()


@pytest.mark.parametrize("name", ["../up", "a b", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str, monkeypatch):
    monkeypatch.setenv("GAUNTLET_EXECUTOR", name)
    with pytest.raises(SettingsError, match="GAUNTLET_EXECUTOR"):
        Settings.load()
