"""``python -m bench.workers``: how much faster do two workers finish a report than one, each pinned to one core?

The workers are those of the service, with a job database of their own; all have opened the models before the timing.
Runs alternate between one worker and several, and medians are compared.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.report.build import shards
from gauntlet.report.schema import ReportRequest
from service.errors import ServiceError
from service.jobs.queue import SHARD, Jobs
from service.jobs.status import ENDED, Status
from service.settings import ROOT

MODELS = ROOT / "models"
LOOK = 0.05  # seconds between two polls of the job


class Team:
    """Workers that share a job database, worker i pinned to core i."""

    def __init__(self, count: int, state: Path) -> None:
        self.count = count
        url = f"sqlite:///{state / 'jobs.sqlite'}"
        settings = {"MODELS": MODELS, "STATE": state, "DATABASE_URL": url, "THREADS": 1, "DEVICE": "cpu"}
        self._environment = {**os.environ, **{f"GAUNTLET_{name}": str(value) for name, value in settings.items()}}
        self._jobs = Jobs(url)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        command = [sys.executable, "-m", "service.worker", "--parent", str(os.getpid())]
        processes = [
            subprocess.Popen(command, cwd=ROOT, env=self._environment)  # noqa: S603
            for _ in range(self.count)
        ]
        for core, process in enumerate(processes):
            os.sched_setaffinity(process.pid, {core})  # before it has threads, which inherit it
        try:
            while not self._ready():
                if any(process.poll() is not None for process in processes):
                    raise RuntimeError("a worker has ended before it was ready")
                time.sleep(LOOK)
            yield
        finally:
            for process in processes:
                process.terminate()
                process.wait()

    def _ready(self) -> bool:
        with contextlib.suppress(ServiceError):  # no database yet
            return self._jobs.workers() >= self.count
        return False

    def warm(self, request: ReportRequest, pins: dict[str, str]) -> None:
        """Compute reports until each worker has computed a shard, and so has opened the models."""
        ready: set[str | None] = set()
        while len(ready) < self.count:
            self.seconds(request, pins)
            done = self._jobs.database.client.list_workflows(
                name=SHARD, status="SUCCESS", load_input=False, load_output=False
            )
            ready = {row.executor_id for row in done}

    def seconds(self, request: ReportRequest, pins: dict[str, str]) -> float:
        """Return the seconds from the submission of a report to its end."""
        started = time.perf_counter()
        job_id = self._jobs.submit(request.model_dump(mode="json"), pins, None, 100)[0].id
        while (job := self._jobs.get(job_id)).status not in ENDED:
            time.sleep(LOOK)
        if job.status is not Status.SUCCEEDED:
            raise RuntimeError(job.error)
        return time.perf_counter() - started


def time_teams(teams: list[Team], request: ReportRequest, runs: int) -> list[list[float]]:
    """Return the seconds of every run, by team. Only one team runs at a time."""
    artefacts = {name: artefact_folders.load(MODELS / "artifacts" / name) for name in request.models}
    images = evaluation_sets.load(MODELS / "evalsets" / f"{request.dataset}.npz")
    pins = {f"models/{name}": artefact.manifest.model_sha256 for name, artefact in artefacts.items()}
    pins[f"evalsets/{request.dataset}"] = images.sha256
    small = request.model_copy(update={"n": 64, "attacks": ["pgd"]})
    seconds: list[list[float]] = [[] for _ in teams]
    for run in range(runs):
        for team, own in zip(teams, seconds, strict=True):
            with team.working():
                team.warm(small, pins)
                own.append(team.seconds(request, pins))
                print(f"run {run + 1}, {team.count} worker(s): {own[-1]:.1f} s", flush=True)
    return seconds


def main() -> None:
    """Print the seconds of each run, and the ratio of the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["fashion-mnist-standard", "fashion-mnist-lipschitz"])
    parser.add_argument("--attacks", nargs="+", default=["pgd", "ddn", "apgd"])
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    threats = [{"norm": "l2", "eps": [0.25, 0.5]}]
    body = {"dataset": "fashion-mnist", "models": options.models, "attacks": options.attacks, "n": options.n}
    request = ReportRequest.model_validate({**body, "threats": threats})
    print(f"{len(shards(request))} shards; load before the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
        teams = [Team(1, Path(one)), Team(options.workers, Path(many))]
        single, several = map(statistics.median, time_teams(teams, request, options.runs))
    print(f"1 worker {single:.1f} s, {options.workers} workers {several:.1f} s: {single / several:.2f} times as fast")


if __name__ == "__main__":
    main()
