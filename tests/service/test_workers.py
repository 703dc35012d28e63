"""Several workers at one report, as on several hosts: each has a state folder of its own, the database is shared.

On SQLite the database is a file that all of them are told of. They are real processes; one is killed and stays dead.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch
from dbos import DBOS

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.report.build import build, shards
from gauntlet.report.schema import ReportRequest
from gauntlet.runtime import classifier
from service.errors import ServiceError
from service.jobs.database import EXECUTORS, WORKFLOWS
from service.jobs.queue import OLDER, VERSION, WORKFLOW, Jobs
from tests import tiny
from tests.service.conftest import PATIENCE, ROOT, build_models, environment, wait_for
from tests.service.databases import Postgres

pytestmark = pytest.mark.slow

HASTY = "from service import worker; from service.jobs import takeover; takeover.SILENT = 10.0; worker.main()"
"""A worker that holds another for dead sooner: the thirty seconds themselves are tested in test_takeover."""

REPORT: dict[str, Any] = {
    "models": ["linear", "conv"],
    "dataset": "many",
    "n": 300,
    "attacks": ["pgd", "cw"],
    "threats": [{"norm": "l2", "eps": [0.05, 0.1, 0.2, 0.4]}],
    "seed": 5,
}


@dataclass
class Fleet:
    """Workers, by name, and the database that they share."""

    folder: Path
    url: str
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        DBOS.migrate(self.url)
        self.jobs = Jobs(self.url)
        self.jobs.database.migrate()

    def start(self, name: str) -> None:
        settings = {"database_url": self.url, "executor": name, "state": self.folder / name}
        with (self.folder / f"{name}.log").open("a") as log:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-c", HASTY],
                cwd=ROOT,
                env=environment(self.folder, **settings),
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str) -> None:
        self.workers[name].kill()
        self.workers[name].wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def submit(self, body: dict[str, Any] = REPORT) -> str:
        pins = {f"models/{name}": self.artefacts[name].manifest.model_sha256 for name in body["models"]}
        pins[f"evalsets/{body['dataset']}"] = evaluation_sets.load(self.evalsets / f"{body['dataset']}.npz").sha256
        body = ReportRequest.model_validate(body).model_dump(mode="json")
        return self.jobs.submit(body, pins, None, 100)[0].id

    @property
    def evalsets(self) -> Path:
        return self.folder / "models" / "evalsets"

    @property
    def artefacts(self) -> dict[str, Any]:
        return artefact_folders.load_all(self.folder / "models" / "artifacts")

    def rows(self, *conditions: sa.ColumnElement[bool]) -> list[Any]:
        with self.jobs.database.begin() as connection:
            return list(connection.execute(sa.select(WORKFLOWS).where(*conditions)))

    def shards(self, report: str) -> list[Any]:
        return self.rows(WORKFLOWS.c.parent_workflow_id == report)

    def done(self, report: str) -> dict[str, Any]:
        return {row.workflow_uuid: row for row in self.shards(report) if row.status == "SUCCESS"}

    def attempts(self, report: str) -> int:
        """How often the report, or a shard of it, was begun at most."""
        (whole,) = self.rows(WORKFLOWS.c.workflow_uuid == report)
        return max(row.recovery_attempts for row in (whole, *self.shards(report)))

    def holder(self, report: str) -> str:
        return self.rows(WORKFLOWS.c.workflow_uuid == report)[0].executor_id

    def finished(self, report: str) -> dict[str, Any]:
        def look() -> Any:
            job = self.jobs.get(report, output=True)
            return job if job.status not in ("queued", "running") else None

        job = wait_for(look)
        assert job.status == "succeeded", job.error
        return job.output


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").database(f"fleet-{request.node.name}")
    build_models(tmp_path)
    fleet = Fleet(tmp_path, url)
    tiny.evalset(fleet.evalsets / "many.npz", n=REPORT["n"])
    yield fleet
    for name in fleet.workers:
        fleet.kill(name)
    fleet.jobs.close()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    efforts = [{**effort, "seconds": 0} for effort in report["effort"]]
    return {**report, "seconds": 0, "effort": efforts}


def expected(fleet: Fleet) -> dict[str, Any]:
    """The same report by one process in one piece, with the threads that a worker has here."""
    with threads(1):
        models = {name: classifier.open_model(fleet.artefacts[name], "cpu") for name in REPORT["models"]}
        report = build(ReportRequest.model_validate(REPORT), models, evaluation_sets.load_all([fleet.evalsets]))
    return timeless(report.model_dump(mode="json"))


def test_a_second_worker_helps_re_runs_nothing_and_goes_on_for_the_dead(fleet: Fleet):
    fleet.start("first")
    report = fleet.submit()
    wait_for(lambda: len(fleet.done(report)) >= 2)
    fleet.start("second")
    wait_for(lambda: {row.executor_id for row in fleet.shards(report)} >= {"first", "second"})
    wait_for(lambda: any(row.executor_id == "second" for row in fleet.done(report).values()))
    assert fleet.attempts(report) == 1
    assert fleet.holder(report) == "first"
    fleet.kill("first")
    before = fleet.done(report)
    assert len(before) < len(fleet.shards(report)) == len(shards(ReportRequest.model_validate(REPORT)))
    output = fleet.finished(report)
    assert fleet.holder(report) == "second"
    assert fleet.done(report).items() >= before.items()
    assert fleet.attempts(report) == 2
    assert "from worker first, which has ended or is silent" in fleet.log("second")
    assert timeless(output["report"]) == expected(fleet)


def test_who_takes_a_planned_report_over_keeps_its_plan(fleet: Fleet):
    fleet.start("first")
    report = fleet.submit({**REPORT, "budget_seconds": 60})
    wait_for(lambda: len(fleet.done(report)) >= 2)
    fleet.kill("first")
    planned = {row.workflow_uuid for row in fleet.shards(report)}
    fleet.start("second")
    made = fleet.finished(report)["report"]
    assert fleet.holder(report) == "second"
    assert {row.workflow_uuid for row in fleet.shards(report)} == planned
    assert made["request"]["budget_seconds"] is None


def test_jobs_of_the_previous_release_complete(fleet: Fleet):
    """One had not begun; one was being computed by a worker named as all were then, and has steps of then."""
    body = {**REPORT, "n": 5, "attacks": ["pgd"]}
    waiting, running = fleet.submit(body), fleet.submit(body)
    steps = sa.table(
        "operation_outputs",
        *map(sa.column, ("workflow_uuid", "function_id", "function_name", "output", "retention_timestamp")),
        schema=None if fleet.jobs.database.sqlite else "dbos",
    )
    with fleet.jobs.database.begin() as connection:
        connection.execute(sa.update(WORKFLOWS).values(application_version=OLDER[0]))
        held = sa.update(WORKFLOWS).where(WORKFLOWS.c.workflow_uuid == running)
        connection.execute(held.values(status="PENDING", executor_id="local", owner_xid="x", recovery_attempts=1))
        connection.execute(sa.insert(steps).values((running, 1, "linear/clean", '"{}"', 0)))
    fleet.start("new")
    outputs = [timeless(fleet.finished(report)["report"]) for report in (waiting, running)]
    assert outputs[0] == outputs[1]
    assert {row.application_version for row in fleet.rows(WORKFLOWS.c.name == WORKFLOW)} == {VERSION}
    assert "adopted" in fleet.log("new")


def test_who_is_stopped_gives_back_at_once_what_it_was_computing(fleet: Fleet):
    fleet.start("first")
    report = fleet.submit()
    wait_for(lambda: len(fleet.done(report)) >= 2)
    fleet.workers["first"].terminate()
    assert fleet.workers["first"].wait(PATIENCE) == 0
    assert {row.status for row in fleet.shards(report)} == {"SUCCESS", "ENQUEUED"}
    assert fleet.jobs.get(report).status == "queued"
    assert fleet.jobs.workers() == 0
    assert list((fleet.folder / "first").glob("worker-*")) == []
    before = fleet.done(report)
    fleet.start("second")
    fleet.finished(report)
    assert fleet.done(report).items() >= before.items()
    assert fleet.attempts(report) == 1


@pytest.mark.postgres
def test_a_database_that_goes_away_and_comes_back_costs_no_work(postgres: Postgres, tmp_path: Path):
    build_models(tmp_path)
    fleet = Fleet(tmp_path, postgres.database("away"))
    tiny.evalset(fleet.evalsets / "many.npz", n=REPORT["n"])
    fleet.start("one")
    report = fleet.submit()
    wait_for(lambda: len(fleet.done(report)) >= 2)
    before = fleet.done(report)
    postgres.stop()
    with pytest.raises(ServiceError, match="cannot be used"):
        fleet.jobs.get(report)
    wait_for(lambda: "connection" in fleet.log("one"))
    postgres.start()
    fleet.finished(report)
    assert fleet.done(report).items() >= before.items()
    assert fleet.attempts(report) == 1
    assert fleet.workers["one"].poll() is None
    with fleet.jobs.database.begin() as connection:
        assert connection.execute(sa.select(EXECUTORS.c.executor)).scalars().all() == ["one"]
    fleet.kill("one")
    fleet.jobs.close()
