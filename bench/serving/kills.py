"""``python -m bench.serving.kills``: repeatedly kill -9 one process of each kind while clients send requests.

Clients classify (with a shipped model, and with the same file as an upload), attack, and submit reports. Each answer is
compared with the answer before the first kill; a client retries if its connection broke or it got 503 with Retry-After.
No answer may differ, and no report may be lost. BentoML's parent process is not killed: restarting that is the task of
whatever supervises the service. Clients pause between requests, because workers have the lowest priority: if no core is
ever free, a worker that is killed each minute finishes no report.
"""

import argparse
import collections
import contextlib
import itertools
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import psutil

from bench.serving.asks import Asks
from bench.serving.servers import Running, gauntlet, running, workplace
from service.jobs.status import ENDED

NAMED = ("api", "compute", "worker", "fork-server")
CALLED = {
    "gauntlet.sandbox.fork_server_main": "sandbox",  # and its children, in which uploaded models run
    "service.worker": "worker",  # this and the next two: as they are started after the fork server was killed
    "--service-name compute": "compute",
    "--service-name gauntlet": "api",
}
"""Part of a process's command line -> kind of the process."""
PAUSE = 0.1  # seconds between an answer and the next request of the same client
PATIENCE = 120.0  # seconds within which a request must be answered, including retries
UPLOAD = "uploaded"


class Client:
    """A client that retries errors caused by killed processes, and counts answers and errors in ``met``."""

    def __init__(self, port: int) -> None:
        self._connections = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False)
        self.met = collections.Counter[str]()

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return its answer. Raises RuntimeError for a timeout or any other error."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = self._connections.request(method, path, **options)
            except httpx.TransportError as error:
                self.met[type(error).__name__] += 1
                time.sleep(0.1)
                continue
            self.met[f"{method} {answer.status_code}"] += 1
            if answer.is_success:
                return answer
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or "Retry-After" not in answer.headers:
                raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            time.sleep(min(float(answer.headers["Retry-After"]), 1.0))
        raise RuntimeError(f"{method} {path}: no answer in {PATIENCE:g} s")


def classification(client: Client, asks: Asks, model: str) -> Any:
    """Return labels and margins of eight images; rounded, because a margin's last bits depend on its batch."""
    answer = client("POST", "/classify", json={"model": model, "images": asks.pngs[:8]}).json()
    return [(one["label"], round(one["margin"], 3)) for one in answer["predictions"]]


def attack(client: Client, asks: Asks) -> Any:
    body = {"attack": "pgd", "norm": "l2", "eps": 0.5, "images": asks.pngs[:8], "params": {"steps": 20}}
    return client("POST", "/attack", json={"model": asks.model.name, **body}).json()["results"]


def without_seconds(found: Any) -> Any:
    """Return the report without its durations, which differ each time."""
    if isinstance(found, dict):
        return {name: without_seconds(value) for name, value in found.items() if name != "seconds"}
    return [without_seconds(value) for value in found] if isinstance(found, list) else found


def report(client: Client, model: str) -> Any:
    """Submit a report with a new idempotency key, so that a retry does not create another one; wait for it."""
    body = {"models": [model], "dataset": "fashion-mnist", "n": 16, "attacks": ["pgd"]}
    threats = [{"norm": "l2", "eps": [0.25]}]
    key = {"Idempotency-Key": str(uuid.uuid4())}
    path = client("POST", "/robustness-report", json={**body, "threats": threats}, headers=key).json()["status_url"]
    while (job := client("GET", path).json())["status"] not in ENDED:
        time.sleep(0.2)
    if job["status"] != "succeeded":
        raise RuntimeError(f"a report has {job['status']}: {job['error']}")
    return without_seconds(job["report"])


def kind(name: str, command: Sequence[str]) -> str | None:
    """Return the kind of a process that may be killed, or None for BentoML's parent."""
    if name in NAMED:
        return name
    return next((kind_ for part, kind_ in CALLED.items() if part in " ".join(command)), None)


def kill_each(server: Running, drawn: random.Random) -> Iterator[str]:
    """Kill one process of every kind, one after the other; yield the kinds."""
    kinds: dict[str, list[psutil.Process]] = {}
    for process in server.tree():
        with contextlib.suppress(psutil.NoSuchProcess):
            if name := kind(process.name(), process.cmdline()):
                kinds.setdefault(name, []).append(process)
    for name, processes in sorted(kinds.items()):
        with contextlib.suppress(psutil.NoSuchProcess):
            drawn.choice(processes).kill()
            yield name


class Again(threading.Thread):
    """A client thread that repeats a request until ``over`` is set. ``done`` counts the expected answers."""

    def __init__(self, name: str, ask: Callable[[], Any], expected: Any, over: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.done, self.fault = 0, ""
        self._ask, self._expected, self._over = ask, expected, over

    def run(self) -> None:
        try:
            while not self._over.is_set():
                if (answer := self._ask()) != self._expected:
                    raise RuntimeError(f"{json.dumps(answer)[:500]} instead of {json.dumps(self._expected)[:500]}")
                self.done += 1
                self._over.wait(PAUSE)
        except (RuntimeError, KeyError, ValueError) as error:
            self.fault = f"{self.name}: {error}"


def main() -> None:
    """Print a line for each round of kills; exit status 1 for a wrong answer, another error, or a lost report."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.kills", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=60, help="seconds between two rounds of kills (%(default)s)")
    parser.add_argument("--model", default="fashion-mnist-standard")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asks, drawn, over = Asks(options.model), random.Random(options.seed), threading.Event()  # noqa: S311
    with workplace() as folder, running(gauntlet(folder, [options.model], local_workers=1), folder / "log") as server:
        client = Client(server.port)
        client("GET", "/readyz")
        files = {"file": (f"{UPLOAD}.onnx", (asks.folder / "model.onnx").read_bytes())}
        settings = {"settings": json.dumps({"name": UPLOAD, "layout": "nchw", "pixel_range": "0..1"})}
        client("POST", "/models", files=files, data=settings, headers={"Prefer": "wait=100"})
        work: dict[str, Callable[[], Any]] = {
            "classify": lambda: classification(client, asks, options.model),
            "classify, uploaded": lambda: classification(client, asks, UPLOAD),
            "attack": lambda: attack(client, asks),
            "report": lambda: report(client, options.model),
        }
        clients = [Again(name, ask, ask(), over) for name, ask in work.items()]
        client.met.clear()
        for one in clients:
            one.start()
        end, killed = time.monotonic() + 60 * options.minutes, collections.Counter[str]()
        for number in itertools.count(1):
            over.wait(max(0.0, min(options.every, end - time.monotonic())))
            if time.monotonic() >= end or any(one.fault for one in clients):
                break
            killed.update(names := list(kill_each(server, drawn)))
            answered = ", ".join(f"{one.name} {one.done}" for one in clients)
            print(f"round {number}: killed {', '.join(names)}; answered: {answered}", flush=True)
        over.set()
        for one in clients:
            one.join()
    print(f"killed {dict(killed)}; answered { ({one.name: one.done for one in clients}) }; met {dict(client.met)}")
    faults = [one.fault for one in clients if one.fault] + [f"{one.name}: nothing" for one in clients if not one.done]
    print("; ".join(faults) or "nothing lost, nothing wrong")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
