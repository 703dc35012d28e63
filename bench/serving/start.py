"""``python -m bench.serving.start``: start-up time and memory of the service with all shipped models.

The first start computes the proofs of the models; later starts find them in the state folder. Medians are of later
starts.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import httpx
import numpy as np

from bench.serving.asks import MODELS
from bench.serving.servers import Running, gauntlet, running, workplace
from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import ClassifierManifest

CLASSIFY, ATTACK = "/classify answers", "/attack answers"
GOALS = {CLASSIFY: 5.0, ATTACK: 8.0}  # seconds of a start after the first
TOTAL, API = 1.1, 0.2  # limits in GB of PSS: all processes, one API process
SETTLED = 5.0  # seconds without a request before memory is read


def seconds_until(address: str, model: str, begin: float) -> dict[str, float]:
    """Return the seconds from ``begin``, a time of the monotonic clock, until each kind of request first succeeds."""
    manifest = artefact_folders.load(MODELS / "artifacts" / model).manifest
    assert isinstance(manifest, ClassifierManifest)
    image = np.zeros(manifest.input_shape).tolist()
    attack = {"attack": "fgsm", "norm": "l2", "eps": 0.1}
    steps: Mapping[str, Callable[[httpx.Client], httpx.Response]] = {
        CLASSIFY: lambda client: client.post("/classify", json={"model": model, "images": [image]}),
        ATTACK: lambda client: client.post("/attack", json={"model": model, "images": [image], **attack}),
        "/readyz is 200": lambda client: client.get("/readyz"),
    }
    found = dict[str, float]()
    with httpx.Client(base_url=address, timeout=60) as client:
        while len(found) < len(steps):
            for name, step in steps.items():
                with contextlib.suppress(httpx.TransportError):
                    if name not in found and step(client).status_code == httpx.codes.OK:
                        found[name] = time.monotonic() - begin
            time.sleep(0.02)
    return found


def memory(server: Running) -> list[tuple[str, float]]:
    """Return the proportional set size of each process in GB: shared memory is divided among the processes."""
    return [(process.name(), process.memory_full_info().pss / 1e9) for process in server.tree()]


def main() -> None:
    """Print start-up times and memory; exit status 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.start", description=__doc__)
    parser.add_argument("--model", default="fashion-mnist-lipschitz", help="model of the requests (%(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="starts after the first (%(default)s)")
    options = parser.parse_args()
    names = [folder.name for folder in artefact_folders.folders(MODELS / "artifacts")]
    print(f"load before the start {os.getloadavg()[0]:.1f}; {len(names)} models")
    starts = list[dict[str, float]]()
    with workplace() as folder:
        variant = gauntlet(folder, names, local_workers=1)
        for _ in range(options.runs + 1):
            begin = time.monotonic()
            with running(variant, folder / "log") as server:
                starts.append(seconds_until(f"http://127.0.0.1:{server.port}", options.model, begin))
                time.sleep(SETTLED)
                held = memory(server)
    first, *later = starts
    medians = {name: statistics.median(start[name] for start in later) for name in first}
    for name, value in medians.items():
        print(f"{name} after {value:.1f} s (the first time {first[name]:.1f} s), {_goal(GOALS.get(name))}")
    for name, size in held:
        print(f"{name}: {size:.3f} GB PSS")
    total, api = sum(size for _, size in held), max(size for name, size in held if name == "api")
    print(f"all processes, idle: {total:.2f} GB PSS, {_goal(TOTAL)}; the largest api {api:.3f} GB, {_goal(API)}")
    missed = [name for name, goal in GOALS.items() if medians[name] > goal]
    sys.exit(bool(missed) or total > TOTAL or api > API)


def _goal(limit: float | None) -> str:
    return "no goal" if limit is None else f"at most {limit:g}"


if __name__ == "__main__":
    main()
