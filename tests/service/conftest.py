"""A real server: ``python -m service`` on a free port, with tiny models."""

import base64
import contextlib
import io
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from service.observability.logs import AUDIT, Json
from tests import outgoing, tiny
from tests.ports import free_port
from tests.service import databases

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0
"""Seconds that only a hang takes, however busy the machine."""
BUDGET = 100_000
MAX_BODY = 2 * 2**20


def wait_for(condition: Callable[[], Any], timeout: float = PATIENCE, every: float = 0.1) -> Any:
    """The first true value of the condition."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if value := condition():
                return value
        time.sleep(every)
    raise AssertionError(f"not within {timeout} s")


def environment(folder: Path, **settings: object) -> dict[str, str]:
    inherited = outgoing.environment(folder / "home")
    inherited = {name: value for name, value in inherited.items() if not name.startswith("GAUNTLET_")}
    chosen = {
        "GAUNTLET_MODELS": folder / "models",
        "GAUNTLET_STATE": folder / "state",
        "GAUNTLET_THREADS": 1,
        "GAUNTLET_API_WORKERS": 2,
        **{f"GAUNTLET_{name.upper()}": value for name, value in settings.items()},
    }
    return {
        **inherited,
        "BENTOML_HOME": str(folder / "bentoml"),
        **{name: str(value) for name, value in chosen.items()},
    }


def build_models(folder: Path) -> None:
    artifacts = folder / "models" / "artifacts"
    tiny.linear(artifacts / "linear")
    tiny.convolutional(artifacts / "conv")
    tiny.generator(artifacts / "gen")
    tiny.evalset(folder / "models" / "evalsets" / "tiny.npz")


@dataclass
class Server:
    """The service as a process tree, and a client of it."""

    folder: Path
    settings: dict[str, object]
    port: int = field(default_factory=free_port)
    worker_port: int = field(default_factory=free_port)

    def start(self, ready: str = "/readyz") -> None:
        self.log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment(self.folder, port=self.port, worker_port=self.worker_port, **self.settings),
            stdout=self.log,
            stderr=self.log,
        )
        patient = {"Prefer": f"wait={PATIENCE:.0f}"}  # for a model to be opened
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE, headers=patient)
        try:
            wait_for(lambda: self.client.get(ready).status_code == 200 or self.process.poll() is not None)
        except AssertionError as error:
            raise AssertionError(self.written()[-5000:]) from error
        assert self.process.poll() is None, self.written()

    def written(self) -> str:
        """The log's complete lines: another process may be writing the next."""
        return (self.folder / "log").read_bytes().rpartition(b"\n")[0].decode()

    def entries(self, word: str) -> list[dict[str, Any]]:
        """Those of the complete lines that have this word in them, where the log is JSON."""
        return [json.loads(line) for line in self.written().split("\n") if word in line]

    @property
    def probe(self) -> str:
        """The worker's own address."""
        return f"http://127.0.0.1:{self.worker_port}"

    @property
    def home(self) -> Path:
        """Of the user that runs it."""
        return self.folder / "home"

    def tree(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]

    def named(self, name: str) -> list[psutil.Process]:
        """The processes of the service that ``ps`` calls so."""
        return [process for process in self.tree()[1:] if process.name() == name]

    def worker(self) -> psutil.Process | None:
        found = self.named("worker")
        return found[0] if found else None

    def compute(self) -> psutil.Process:
        """The process that computes attacks, smoothing and uploaded models."""
        (found,) = self.named("compute")
        return found

    def api(self) -> list[psutil.Process]:
        """The processes that answer."""
        return self.named("api")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While its worker stands still, where it keeps nobody from the job database."""
        worker = self.worker()
        assert worker is not None
        wait_for(lambda: self._stopped(worker))
        try:
            yield
        finally:
            worker.resume()

    def _stopped(self, worker: psutil.Process) -> bool:
        worker.suspend()
        wait_for(lambda: worker.status() == psutil.STATUS_STOPPED, every=0.01)
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "jobs.sqlite", timeout=0)) as database:
            try:
                database.execute("begin exclusive")
            except sqlite3.OperationalError:
                worker.resume()
                return False
            database.rollback()
            return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status, once every process of the tree is gone."""
        processes = self.tree()
        self.client.close()
        self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        _, alive = psutil.wait_procs(processes, PATIENCE)
        self.log.close()
        assert not alive
        return status

    def shards(self, report: str) -> dict[str, int]:
        """The finished shards of a report with the time of their end, straight from the job database."""
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "jobs.sqlite")) as database:
            query = (
                "select workflow_uuid, completed_at from workflow_status where parent_workflow_id = ? and status = ?"
            )
            return dict(database.execute(query, [report, "SUCCESS"]).fetchall())

    def status(self, report: str) -> dict[str, Any]:
        return self.client.get(f"/robustness-report/{report}").json()

    def finished(self, report: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status = self.status(report)
            return status if status["status"] not in ("queued", "running") else None

        return wait_for(look)

    def submit(self, body: dict[str, Any], **headers: str) -> str:
        answer = self.client.post("/robustness-report", json=body, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()["id"]

    def metrics(self) -> dict[str, float]:
        lines = self.client.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    build_models(folder)
    running = Server(
        folder,
        {
            "attack_deadline": PATIENCE,
            "attack_budget": BUDGET,
            "max_body": MAX_BODY,
            "max_upload": MAX_BODY,
            "attack_queue": 1,
            "log_format": "json",
        },
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[databases.Postgres]:
    yield from databases.served()


@pytest.fixture(scope="session")
def client(server: Server) -> httpx.Client:
    return server.client


def pixels(n: int, seed: int = 0) -> np.ndarray:
    """Grey images (n, 1, 8, 8) on the 8-bit grid, around the middle."""
    return np.random.default_rng(seed).integers(90, 165, size=(n, 1, 8, 8), dtype=np.uint8)


def arrays(n: int, seed: int = 0) -> list[Any]:
    return (pixels(n, seed).astype(np.float32) / 255).tolist()


def encoded(array: np.ndarray, form: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def pngs(n: int, seed: int = 0) -> list[str]:
    return [encoded(image[0]) for image in pixels(n, seed)]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets GAUNTLET_ variables for what is made in this process, whose state folder is the test's own."""
    monkeypatch.setenv("GAUNTLET_STATE", str(tmp_path))

    def choose(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"GAUNTLET_{name.upper()}", str(value))

    return choose


@pytest.fixture
def audit(caplog, monkeypatch):
    """The lines of the audit so far, as they are written."""
    monkeypatch.setattr(AUDIT, "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(Json().format(record)) for record in caplog.records if record.name == AUDIT.name]


SHORT_REPORT = {
    "models": ["linear", "conv"],
    "dataset": "tiny",
    "n": 10,
    "attacks": ["pgd", "ddn"],
    "threats": [{"norm": "l2", "eps": [0.1, 0.5]}],
}
TINY_REPORT = {
    "models": ["linear"],
    "dataset": "tiny",
    "n": 1,
    "attacks": ["fgsm"],
    "threats": [{"norm": "l2", "eps": [0.5]}],
}
LONG_REPORT = {
    "models": ["linear", "conv"],
    "dataset": "tiny",
    "n": 40,
    "attacks": ["pgd", "cw"],
    "threats": [{"norm": "l2", "eps": [round(0.02 * step, 2) for step in range(1, 9)]}],
}
