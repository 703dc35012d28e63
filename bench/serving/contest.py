"""Runs all contenders in turn, each with its fastest settings, and computes the medians."""

import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from bench.serving import load
from bench.serving.asks import ROOT, Asks
from bench.serving.load import Ask
from bench.serving.servers import PEERS, Running, Variant, peers, running
from bench.serving.servers import gauntlet as ours
from gauntlet.artifacts.manifest import Frozen
from gauntlet.runtime.core_count import available

BATCH = 64
TRIALS = 2  # of every setting, far apart, because the machine may be slow for a while
CHECK = 16  # one answer in this many is checked, to leave the cores to the server
ONE, MANY, BINARY = "one PNG", f"{BATCH} PNGs", f"{BATCH} images, binary"
BARE = "bare ONNX Runtime"


class Options(Frozen):
    """Options from the command line."""

    model: str
    connections: int
    seconds: float
    trial: float
    runs: int
    out: Path


class Run(Frozen):
    """The measurements of one server with one kind of request."""

    contender: str
    settings: str
    what: str  # the kind of request
    requests: float = Field(description="a second")
    images: float = Field(description="a second")
    p50: float = Field(description="milliseconds")
    p99: float = Field(description="milliseconds")
    processor: float = Field(description="milliseconds of processor time a request")
    memory: float = Field(description="MiB, of all its processes")
    wrong: int = Field(description="answers that were not what the model says, of those looked at")


def kinds(variant: Variant, asks: Asks) -> Mapping[str, Sequence[Ask]]:
    """Return the kinds of request that a contender supports, with the requests."""
    both = {ONE: asks.png(1), MANY: asks.png(BATCH)}
    if variant.contender.startswith("Gauntlet"):
        return {**both, BINARY: asks.oip(BATCH)}
    return {**both, BINARY: asks.raw(BATCH)} if variant.contender == "FastAPI" else both


def measure(server: Running, variant: Variant, what: str, asks: Sequence[Ask], options: Options, seconds: float) -> Run:
    load.run(server.port, asks, options.connections, seconds=seconds / 4)
    before = server.busy()
    tally = load.run(server.port, asks, options.connections, seconds=seconds, check=CHECK)
    return Run(
        contender=variant.contender,
        settings=variant.settings,
        what=what,
        requests=tally.requests / tally.seconds,
        images=tally.images / tally.seconds,
        p50=1e3 * tally.quantile(0.5),
        p99=1e3 * tally.quantile(0.99),
        processor=1e3 * (server.busy() - before) / tally.requests,
        memory=server.memory() / 2**20,
        wrong=len(tally.wrong),
    )


def bare(asks: Asks, what: str, threads: int, seconds: float) -> Run:
    """Measure the network alone, in a process that does nothing else."""
    size = 1 if what == ONE else BATCH
    command = [str(PEERS / "python"), "-m", "bench.serving.peers.bare", str(seconds), str(size)]
    environment = {**os.environ, "PEER_MODEL": str(asks.folder), "PEER_THREADS": str(threads)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    images = float(done.stdout)
    return Run(
        contender=BARE,
        settings=f"{threads} thread(s)",
        what=what,
        requests=images / size,
        images=images,
        p50=1e3 * size / images,
        p99=1e3 * size / images,
        processor=0,
        memory=0,
        wrong=0,
    )


def one_round(
    variants: Mapping[Variant, set[str]], asks: Asks, options: Options, seconds: float, log: Path
) -> Iterator[Run]:
    """Run every variant once with its wanted kinds of request; print and yield each result."""
    for variant, wanted in variants.items():
        with running(variant, log) as server:
            for what, requests in kinds(variant, asks).items():
                if what in wanted:
                    run = measure(server, variant, what, requests, options, seconds)
                    print(f"{run.contender}, {run.settings}, {what}: {run.requests:.0f} requests/s", flush=True)
                    yield run


def best(trials: Sequence[Run]) -> dict[tuple[str, str], str]:
    """Return the fastest settings of each contender for each kind of request."""
    fastest: dict[tuple[str, str], Run] = {}
    for run in trials:
        key = run.contender, run.what
        if key not in fastest or run.images > fastest[key].images:
            fastest[key] = run
    return {key: run.settings for key, run in fastest.items()}


def median(runs: Sequence[Run]) -> Run:
    """Return the median of each value, over runs of one contender with one kind of request."""
    values = ("requests", "images", "p50", "p99", "processor", "memory")
    middles = {name: statistics.median(getattr(run, name) for run in runs) for name in values}
    return runs[0].model_copy(update={**middles, "wrong": sum(run.wrong for run in runs)})


def contest(asks: Asks, options: Options, folder: Path) -> tuple[list[Run], list[Run]]:
    """Run the contest; return the medians, and the runs from which they are computed (without the trial runs)."""
    log = folder / "log"
    mine, others = ours(folder, [asks.model.name]), peers(asks.model, folder)
    everything = {ONE, MANY, BINARY}
    trials: list[Run] = []
    for _ in range(TRIALS):
        trials += one_round(dict.fromkeys(others, everything), asks, options, options.trial, log)
    thread_counts = sorted({1, available()})
    trials += [bare(asks, what, threads, options.trial) for what in (ONE, MANY) for threads in thread_counts]
    chosen = best(trials)
    wanted = {mine: everything}
    for variant in others:
        wanted[variant] = {what for what in everything if chosen.get((variant.contender, what)) == variant.settings}
    wanted = {variant: whats for variant, whats in wanted.items() if whats}
    runs: list[Run] = []
    for number in range(options.runs):
        print(f"round {number + 1} of {options.runs}", flush=True)
        runs += one_round(wanted, asks, options, options.seconds, log)
        runs += [bare(asks, what, int(chosen[BARE, what].split()[0]), options.seconds) for what in (ONE, MANY)]
    keys = dict.fromkeys((run.contender, run.what) for run in runs)
    return [median([run for run in runs if (run.contender, run.what) == key]) for key in keys], runs
