"""The results of one part of the benchmark, as Markdown, JSON and SVG."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field, SerializeAsAny

from bench.attacks.options import Options
from bench.attacks.records import Goal, goal_table
from gauntlet.artifacts.manifest import Frozen
from training.provenance import hardware

PACKAGES = (
    "torch",
    "onnxruntime-gpu",
    "numpy",
    "foolbox",
    "torchattacks",
    "adv-lib",
    "adversarial-robustness-toolbox",
    "pyautoattack",
)


def versions() -> dict[str, str]:
    """Return the versions of the packages on which the figures depend."""
    return {name: version(name) for name in PACKAGES}


class Machine(Frozen):
    """The machine and the versions on which the seconds depend."""

    hardware: str
    threads: int = Field(default_factory=torch.get_num_threads)
    python: str = Field(default_factory=platform.python_version)
    versions: dict[str, str] = Field(default_factory=versions)
    load: float = Field(default_factory=lambda: os.getloadavg()[1])  # of the last five minutes, ours included


class Section(Frozen):
    """The results of a part of the benchmark."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    title: str
    text: str
    results: Mapping[str, Sequence[SerializeAsAny[Frozen]]]
    goals: list[Goal]
    figure: Figure | None = Field(default=None, exclude=True)


class Record(Frozen):
    """The content of the JSON file."""

    machine: Machine
    options: Options
    section: Section


def markdown(section: Section, machine: Machine, options: Options) -> str:
    """Return the section's Markdown: title, machine, options, tables."""
    versions = ", ".join(f"{name} {found}" for name, found in machine.versions.items())
    where = f"{machine.hardware}, threads: {machine.threads}, Python {machine.python}; {versions}"
    sizes = ", ".join(map(str, options.batches))
    how = (
        f"Seed {options.seed}, rounds: {options.rounds}, peers choose from batches of {sizes}; load {machine.load:.1f}."
    )
    return f"## {section.title}\n\n{where}. {how}\n\n{section.text}\n{goal_table(section.goals)}"


def write(section: Section, options: Options) -> str:
    """Write ``<out>/<name>.json``, ``.md``, and ``.svg`` if there is a figure; return the Markdown."""
    machine = Machine(hardware=hardware(torch.device("cpu")))
    text = markdown(section, machine, options)
    options.out.mkdir(parents=True, exist_ok=True)
    record = Record(machine=machine, options=options, section=section)
    (options.out / f"{section.name}.json").write_text(record.model_dump_json(indent=1, exclude={"section": {"text"}}))
    (options.out / f"{section.name}.md").write_text(text)
    if section.figure:
        section.figure.savefig(options.out / f"{section.name}.svg", metadata={"Date": None})
    return text
