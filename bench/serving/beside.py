"""``python -m bench.serving.beside``: p99 latency of /classify during attacks and a report, against an idle service's.

One connection sends the next request as soon as the last is answered: the latency that one client sees. Idle and busy
runs alternate; in a busy run another client sends one /attack after the other, and a report is computed.
"""

import argparse
import base64
import os
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any

import httpx
import torch

from bench.serving import client_process, load
from bench.serving.asks import MODELS, Asks
from bench.serving.servers import gauntlet, running, workplace
from gauntlet.artifacts import evaluation_sets, image_conversion
from service.jobs.status import ENDED

LIMIT = 2.0
ATTACKED = 32  # images of one /attack


def call(port: int, method: str, path: str, body: object = None) -> Any:
    """Send a request and return the JSON of the answer. Raises httpx.HTTPError."""
    answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", json=body, timeout=60)
    return answer.raise_for_status().json()


def submit(port: int, models: Sequence[str], n: int) -> str:
    """Submit a report on n images; return the path of its status."""
    threats = [{"norm": "l2", "eps": [0.25, 0.5]}]
    body = {"models": list(models), "dataset": "fashion-mnist", "n": n, "attacks": ["pgd", "ddn"], "threats": threats}
    path: str = call(port, "POST", "/robustness-report", body)["status_url"]
    return path


def begun(port: int, path: str) -> None:
    """Wait until the report has made progress."""
    while call(port, "GET", path)["progress"] == 0:
        time.sleep(0.2)


def attack(port: int, model: str, over: Event, answered: "Synchronized[int]") -> None:
    """Send one /attack after the other until ``over`` is set."""
    images = evaluation_sets.load(MODELS / "evalsets" / "fashion-mnist.npz").head(ATTACKED)[0]
    pngs = [base64.b64encode(image_conversion.to_png(torch.from_numpy(image))).decode() for image in images]
    body = {"model": model, "attack": "pgd", "norm": "l2", "eps": 0.5, "images": pngs}
    while not over.is_set():
        call(port, "POST", "/attack", body)
        answered.value += 1


def main() -> None:
    """Print both latencies and their ratio; exit status 1 if it exceeds LIMIT.

    Raises RuntimeError if the report ended too early.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.serving.beside", description=__doc__)
    parser.add_argument("--model", default="fashion-mnist-standard")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--n", type=int, default=10_000, help="images of the report (%(default)s)")
    options = parser.parse_args()
    asks = Asks(options.model).png(1)
    idle, busy = list[float](), list[float]()
    print(f"load before the start {os.getloadavg()[0]:.1f}")
    with workplace() as folder, running(gauntlet(folder, [options.model], local_workers=1), folder / "log") as server:
        load.run(server.port, asks, options.connections, seconds=2)

        def p99() -> float:
            return load.run(server.port, asks, options.connections, seconds=options.seconds).quantile(0.99)

        for _ in range(options.runs):
            idle.append(p99())
            path = submit(server.port, [options.model], options.n)
            begun(server.port, path)
            with client_process.beside(attack, server.port, options.model):
                busy.append(p99())
            if call(server.port, "GET", path)["status"] in ENDED:
                raise RuntimeError("the report was over too early; give it more images")
            call(server.port, "POST", f"{path}/cancel", {})
            while call(server.port, "GET", path)["status"] not in ENDED:
                time.sleep(0.2)
    before, beside = 1e3 * statistics.median(idle), 1e3 * statistics.median(busy)
    print(f"p99 of /classify: idle {before:.1f} ms, beside an attack and a report {beside:.1f} ms")
    print(f"{beside / before:.2f} times, at most {LIMIT:g}")
    sys.exit(beside > LIMIT * before)


if __name__ == "__main__":
    main()
