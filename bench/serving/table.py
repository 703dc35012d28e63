"""The results of the contest as a Markdown section and a JSON record."""

import os
import platform
import subprocess
from collections.abc import Sequence

import torch
from pydantic import Field

from bench.attacks.records import table
from bench.serving.contest import BARE, BINARY, MANY, ONE, Options, Run
from bench.serving.servers import PEERS
from gauntlet.artifacts.manifest import Frozen
from training.provenance import commit, hardware

PACKAGES = ("bentoml", "fastapi", "litserve", "onnxruntime-gpu", "uvicorn", "uvloop")


def versions() -> dict[str, str]:
    """Return the versions of the packages in the peers' environment."""
    program = "import sys; from importlib.metadata import version; print(*(version(name) for name in sys.argv[1:]))"
    command = [str(PEERS / "python"), "-c", program, *PACKAGES]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603
    return dict(zip(PACKAGES, found, strict=True))


class Machine(Frozen):
    """The machine and the versions on which the figures depend."""

    hardware: str = Field(default_factory=lambda: hardware(torch.device("cpu")))
    python: str = Field(default_factory=platform.python_version)
    commit: str = Field(default_factory=commit)
    load: float = Field(default_factory=lambda: os.getloadavg()[0], description="of the machine before the start")
    peers: dict[str, str] = Field(default_factory=versions)


class Goal(Frozen):
    """A goal: a ratio of at least ``least``; None: no limit, the ratio is only reported."""

    text: str
    ratio: float
    least: float | None

    @property
    def met(self) -> str:
        return "" if self.least is None else "yes" if self.ratio >= self.least else "no"


class Record(Frozen):
    """The content of the JSON file."""

    machine: Machine
    options: Options
    medians: list[Run]
    runs: list[Run]
    goals: list[Goal]


def goals(medians: Sequence[Run]) -> list[Goal]:
    """Return the goals: ratios of images a second within one contest."""
    contender = "Gauntlet"
    speed = {(run.contender, run.what): run.images for run in medians}

    def goal(least: float | None, what: str, other: str, theirs: str, name: str) -> Goal:
        text = f"{what}: {contender} against {name}"
        return Goal(text=text, ratio=speed[contender, what] / speed[other, theirs], least=least)

    return [
        goal(2.5, ONE, "plain BentoML", ONE, "plain BentoML"),
        goal(None, ONE, "LitServe", ONE, "LitServe"),
        goal(1, ONE, "FastAPI", ONE, "FastAPI"),
        goal(1, MANY, "LitServe", MANY, "LitServe"),
        goal(1, MANY, "FastAPI", MANY, "FastAPI"),
        goal(1, BINARY, "LitServe", MANY, "LitServe's PNGs"),
        goal(1, BINARY, "FastAPI", BINARY, "FastAPI's floats"),
        goal(0.7, BINARY, BARE, MANY, "bare ONNX Runtime"),
    ]


def markdown(record: Record) -> str:
    """Return the section for docs/benchmarks.md."""
    machine, options = record.machine, record.options
    head = ["asked for", "server", "requests/s", "images/s", "p50 ms", "p99 ms", "CPU ms", "memory MiB", "settings"]
    order = {ONE: 0, MANY: 1, BINARY: 2}
    ranked = sorted(record.medians, key=lambda run: (order[run.what], -run.images))
    rows = [
        [
            run.what,
            run.contender,
            f"{run.requests:,.0f}",
            f"{run.images:,.0f}",
            f"{run.p50:.1f}",
            f"{run.p99:.1f}",
            *([f"{run.processor:.2f}", f"{run.memory:,.0f}"] if run.memory else ["", ""]),
            run.settings,
        ]
        for run in ranked
    ]
    ratios = [
        [goal.text, f"{goal.ratio:.2f}", "" if goal.least is None else f"{goal.least:g}", goal.met]
        for goal in record.goals
    ]
    where = ", ".join(f"{name} {version}" for name, version in machine.peers.items())
    return (
        f"## Serving\n\n`make bench-serving`: {options.model}, {options.connections} connections that ask again as "
        f"soon as they are answered, from the same cores; medians of {options.runs} alternating runs of "
        f"{options.seconds:g} s. Peers decode the same PNGs, return the same fields, and have what was fastest of "
        f"their settings. CPU: processor time a request, of all processes of the server.\n\n"
        f"{machine.hardware} (load {machine.load:.1f} before the start), Python {machine.python}, {where}; "
        f"commit {machine.commit[:12]}\n\n"
        f"{table(head, rows)}\n{table(['images a second', 'ratio', 'at least', 'reached'], ratios)}"
    )
