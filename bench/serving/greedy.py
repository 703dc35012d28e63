"""``python -m bench.serving.greedy``: how much does a key that sends as many requests as it can slow down another key?

The greedy key has several connections for each of /classify, smoothing and /attack, each of which sends the next
request at once whatever the answer, and submits as many large reports as it may. The other key sends one image at a
time, first alone.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any

import httpx

from bench.serving import load
from bench.serving.asks import Asks
from bench.serving.client_process import beside
from bench.serving.load import Ask
from bench.serving.servers import gauntlet, running, workplace
from service.jobs.status import ENDED

RATIO = 3.0  # limit of the p99 with the greedy key, relative to that of an idle service
ATTACK = 10.0  # limit in seconds of an /attack on one image
GREEDY, OTHER = "greedy", "other"
REPORTS = 101
LARGE = 2000  # images of a large report
REPORT = {"dataset": "fashion-mnist", "attacks": ["pgd", "ddn"], "threats": [{"norm": "l2", "eps": [0.25, 0.5]}]}


def key(secret: str) -> dict[str, str]:
    return {"scope": "attack", "sha256": hashlib.sha256(secret.encode()).hexdigest()}


def keys() -> str:
    """Return the keys file: two keys, whose secrets are their names. The greedy one has the default limits.

    The other has no request limit, because the time of its answers is measured, not its limit.
    """
    lines = [{"name": GREEDY, **key(GREEDY)}, {"name": OTHER, **key(OTHER), "requests_per_minute": 0}]
    return "\n".join(map(json.dumps, lines))


def client(port: int, key: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=120)


def attack(model: str, images: list[str], steps: int) -> dict[str, Any]:
    body = {"model": model, "attack": "pgd", "norm": "l2", "eps": 0.5, "images": images, "params": {"steps": steps}}
    return {**body, "labels": None}


def ask_again(port: int, path: str, body: bytes, connections: int, over: Event) -> Counter[str]:
    """Send the request repeatedly on each connection, reconnecting if the service closes one; count the statuses."""
    ask = Ask(load.http("POST", path, body, {"X-API-Key": GREEDY}), right=lambda _: True)
    statuses = Counter[str]()
    while not over.is_set():
        with contextlib.suppress(ConnectionError):
            found = load.run(port, [ask], connections, check=sys.maxsize, over=over.is_set)
            statuses.update({f"{path} {status}": n for status, n in found.statuses.items()})
    return statuses


def be_greedy(port: int, model: str, connections: int, over: Event, asked: "Synchronized[int]") -> None:
    """Send the greedy key's requests until ``over`` is set. ``asked`` becomes 1 once its reports are submitted."""
    pngs = Asks(model).pngs
    image = {"model": model, "images": pngs[:1]}
    bodies = {
        "classify": ("/classify", json.dumps(image).encode()),
        "smoothing": ("/classify", json.dumps({**image, "smoothing": {"sigma": 0.25, "samples": 100_000}}).encode()),
        "attack": ("/attack", json.dumps(attack(model, pngs[:256], 500)).encode()),
    }
    with client(port, GREEDY) as session:
        accepted = [
            session.post("/robustness-report", json={**REPORT, "models": [model], "n": LARGE - i}).status_code
            for i in range(REPORTS)
        ]
    print(f"greedy key: reports {dict(Counter(accepted))}", flush=True)
    asked.value = 1
    with ThreadPoolExecutor(len(bodies)) as pool:
        futures = [pool.submit(ask_again, port, path, body, connections, over) for path, body in bodies.values()]
        statuses = sum((future.result() for future in futures), Counter[str]())
    print(f"greedy key: answers {dict(sorted(statuses.items()))}", flush=True)


def p99(port: int, asks: Asks, seconds: float) -> float:
    """Return the p99 latency in seconds of the other key's /classify, one image at a time.

    Raises RuntimeError if a request was refused.
    """
    lines = f"\r\nX-API-Key: {OTHER}\r\n\r\n".encode()
    keyed = [dataclasses.replace(ask, raw=ask.raw.replace(load.HEAD_END, lines, 1)) for ask in asks.png(1)]
    tally = load.run(port, keyed, 1, seconds=seconds)
    if set(tally.statuses) != {httpx.codes.OK}:
        raise RuntimeError(f"the other key's answers: {tally.statuses}")
    return tally.quantile(0.99)


def timed_attack(session: httpx.Client, asks: Asks) -> float:
    """Return the seconds of an /attack on one image."""
    begin = time.monotonic()
    session.post("/attack", json=attack(asks.model.name, asks.pngs[:1], 40)).raise_for_status()
    return time.monotonic() - begin


def begun(session: httpx.Client, model: str) -> float:
    """Return the seconds until a report of the other key has made progress; then cancel it."""
    begin = time.monotonic()
    answer = session.post("/robustness-report", json={**REPORT, "models": [model], "n": 128}).raise_for_status()
    path = answer.json()["status_url"]

    def status() -> Any:
        return session.get(path).raise_for_status().json()

    while (job := status())["progress"] == 0 and job["status"] not in ENDED:
        time.sleep(0.1)
    seconds = time.monotonic() - begin
    session.post(f"{path}/cancel")
    while status()["status"] not in ENDED:
        time.sleep(0.1)
    return seconds


def main() -> None:
    """Print all figures; exit status 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.greedy", description=__doc__)
    parser.add_argument("--model", default="fashion-mnist-standard")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--connections", type=int, default=16, help="of the greedy key, per endpoint (%(default)s)")
    parser.add_argument("--attacks", type=int, default=5)
    options = parser.parse_args()
    asks = Asks(options.model)
    with workplace() as folder:
        (folder / "keys").write_text(keys())
        variant = gauntlet(folder, [options.model], local_workers=1, keys_file=folder / "keys")
        with running(variant, folder / "log") as server, client(server.port, OTHER) as session:
            while session.get("/readyz").status_code != httpx.codes.OK:
                time.sleep(0.2)
            p99(server.port, asks, 2)
            before, alone = p99(server.port, asks, options.seconds), timed_attack(session, asks)
            first = begun(session, options.model)
            with beside(be_greedy, server.port, options.model, options.connections):
                report = begun(session, options.model)
                print(f"first progress of a report: alone {first:.1f} s, beside {report:.1f} s", flush=True)
                busy = p99(server.port, asks, options.seconds)
                attacks = [timed_attack(session, asks) for _ in range(options.attacks)]
    print(f"p99 of /classify: idle {1e3 * before:.1f} ms, beside the greedy key {1e3 * busy:.1f} ms")
    print(f"{busy / before:.2f} times, at most {RATIO:g}")
    worst, middle = max(attacks), statistics.median(attacks)
    print(
        f"/attack on one image: alone {alone:.2f} s, beside {middle:.2f} s, longest {worst:.2f} s, at most {ATTACK:g}"
    )
    sys.exit(busy > RATIO * before or worst > ATTACK)


if __name__ == "__main__":
    main()
