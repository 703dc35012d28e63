"""The servers under test: their commands and settings, start, stop, CPU time and memory."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from bench.serving.asks import MODELS, ROOT
from gauntlet.certify.lipschitz import ROUNDING
from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.core_count import available

PEERS = ROOT / ".venv-serving" / "bin"
START = 180.0  # seconds within which a server must answer


@dataclass(frozen=True, eq=False)
class Variant:
    """One contender with one choice of settings. ``{port}`` in command and environment is replaced by its port."""

    contender: str
    settings: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/docs"


def gauntlet(folder: Path, models: Sequence[str], **settings: object) -> Variant:
    """Return the service with these models; by default without access log and without workers."""
    artifacts = folder / "models" / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    for name in models:
        (artifacts / name).symlink_to(MODELS / "artifacts" / name)
    (artifacts.parent / "evalsets").symlink_to(MODELS / "evalsets")
    chosen = {
        "MODELS": artifacts.parent,
        "STATE": folder / "state",
        "DEVICE": "cpu",
        "ACCESS_LOG": "false",
        "LOCAL_WORKERS": 0,
        "PORT": "{port}",
        **{name.upper(): value for name, value in settings.items()},
    }
    environment = {f"GAUNTLET_{name}": str(value) for name, value in chosen.items()}
    environment["BENTOML_HOME"] = str(folder)
    return Variant("Gauntlet", "as shipped", [sys.executable, "-m", "service"], environment, "/livez")


def peers(model: Classifier, folder: Path, bin_: Path = PEERS) -> list[Variant]:
    """Return every peer with each of its settings."""
    proved = model.certificate
    proof = {
        "lipschitz": proved.lipschitz,
        "method": proved.method,
        "rounding": proved.rounding,
        "relative": ROUNDING,
        "temperature": model.manifest.temperature,
        "pairwise": None if proved.pairwise is None else proved.pairwise.tolist(),
    }
    (folder / "proof.json").write_text(json.dumps(proof))
    common = {
        "PEER_MODEL": str(MODELS / "artifacts" / model.name),
        "PEER_PROOF": str(folder / "proof.json"),
        "BENTOML_HOME": str(folder),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
    }
    cores = available()
    variants = []
    for workers in sorted({1, cores}):
        threads = cores // workers
        spread = {**common, "PEER_THREADS": str(threads), "PEER_WORKERS": str(workers)}
        for in_thread in ("0", "1"):
            settings = (
                f"{workers} worker(s), {threads} thread(s), {'thread pool' if in_thread == '1' else 'event loop'}"
            )
            command = [str(bin_ / "uvicorn"), "bench.serving.peers.fast:app", "--port", "{port}", "--loop", "uvloop"]
            command += ["--no-access-log", "--log-level", "warning", "--workers", str(workers)]
            variants.append(Variant("FastAPI", settings, command, {**spread, "PEER_IN_THREAD": in_thread}))
        for together in ("1", "8"):
            settings = f"{workers} worker(s), {threads} thread(s), batches of {together}"
            command = [str(bin_ / "python"), "-m", "bench.serving.peers.lit", "{port}"]
            environment = {**spread, "PEER_TOGETHER": together, "PEER_DOORS": "1"}
            variants.append(Variant("LitServe", settings, command, environment, "/health"))
        for request_threads in ("1", "4"):
            settings = f"{workers} worker(s), {threads} thread(s), {request_threads} request(s) at once"
            command = [str(bin_ / "python"), "-m", "bentoml", "serve", "bench.serving.peers.plain:Plain"]
            command += ["--port", "{port}"]
            environment = {**spread, "PEER_REQUEST_THREADS": request_threads}
            variants.append(Variant("plain BentoML", settings, command, environment, "/livez"))
    return variants


class Running:
    """A running server and its child processes."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self._process = port, process

    def tree(self) -> list[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def busy(self) -> float:
        """Return the CPU seconds used so far by all its processes."""
        times = [process.cpu_times() for process in self.tree()]
        return sum(one.user + one.system for one in times)

    def memory(self) -> int:
        """Return the resident bytes of all its processes; shared memory is counted in each."""
        return sum(process.memory_info().rss for process in self.tree())

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        tree = self.tree() if self.alive() else []
        self._process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(tree, 15)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self._process.wait()


@contextlib.contextmanager
def running(variant: Variant, log: Path) -> Iterator[Running]:
    """Start the server, yield it once it answers, and stop it. Raises RuntimeError if it does not answer."""
    port = _free()
    with log.open("ab") as output:
        server = Running(port, _start(variant, port, output))
    try:
        _await(server, variant, log)
        yield server
    finally:
        server.end()


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(variant: Variant, port: int, output: BinaryIO) -> subprocess.Popen[bytes]:
    environment = {name: value.format(port=port) for name, value in variant.environment.items()}
    command = [word.format(port=port) for word in variant.command]
    return subprocess.Popen(  # noqa: S603  the commands above
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output
    )


def _await(server: Running, variant: Variant, log: Path) -> None:
    end = time.monotonic() + START
    address = f"http://127.0.0.1:{server.port}{variant.ready}"
    while time.monotonic() < end and server.alive():
        with contextlib.suppress(OSError), urllib.request.urlopen(address):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{variant.contender} does not answer; its log:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Yield a temporary folder for state, proofs and logs."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
