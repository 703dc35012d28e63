"""Runs the contenders in turn on one task, with the same cap, each peer at its fastest batch size."""

import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.attacks.task import Contender, Task

SLACK = 1.02  # factor of the cap: allows for evaluations before the first step and after the last
SAMPLE = 8  # images on which steps are fitted to the cap
TRIES = 6


@dataclass(frozen=True)
class Run:
    """The result of one attack on all images."""

    images: Tensor
    seconds: float
    forwards: float  # per image, on average
    backwards: float

    @property
    def passes(self) -> float:
        return self.forwards + self.backwards


def cap(steps: int) -> float:
    """Return the number of forward and backward passes per image that this many steps may take."""
    return 2 * steps * SLACK


def run(contender: Contender, task: Task) -> Run:
    """Run a contender: time it and count its passes; seed the global generators, from which some libraries draw."""
    torch.manual_seed(task.seed)
    np.random.seed(task.seed)  # noqa: NPY002 - ART draws from it
    twin = task.twin
    before = twin.forwards, twin.backwards
    start = time.perf_counter()
    images = contender.run(task)
    seconds = time.perf_counter() - start
    n = len(task.x)
    return Run(images, seconds, (twin.forwards - before[0]) / n, (twin.backwards - before[1]) / n)


def fitted(contender: Contender, task: Task) -> Task:
    """Return the task with its steps lowered until the contender, run on a few images, stays within the cap."""
    allowed, trial = cap(task.steps), task.first(SAMPLE)
    for _ in range(TRIES if contender.capped else 0):
        passes = run(contender, trial).passes
        if passes <= allowed:
            break
        trial = dataclasses.replace(trial, steps=max(1, int(trial.steps * allowed / (SLACK * passes))))
    return dataclasses.replace(task, steps=trial.steps)


def at_best_batch(contender: Contender, task: Task, sizes: Sequence[int]) -> Task:
    """Return the task with the batch size that was fastest in a short run on as many images as the largest.

    Ours chooses its own batch size, but has a short run too, because the first run includes the allocation of memory.
    """
    sizes = sorted({min(size, len(task.x)) for size in sizes})
    sizes = sizes[-1:] if contender.ours else sizes
    short = dataclasses.replace(task.first(sizes[-1]), steps=min(task.steps, contender.tried))
    seconds = {size: run(contender, dataclasses.replace(short, batch=size)).seconds for size in sizes}
    return dataclasses.replace(task, batch=min(seconds, key=seconds.__getitem__))


def prepared(contenders: Iterable[Contender], task: Task, sizes: Sequence[int]) -> list[tuple[Contender, Task]]:
    """Return every contender with its task: steps within the cap, best batch size."""
    pairs = []
    for contender in contenders:
        pairs.append((contender, at_best_batch(contender, fitted(contender, task), sizes)))
        said(f"{contender.name}: {pairs[-1][1].steps} steps, batches of {pairs[-1][1].batch}")
    return pairs


def alternated(pairs: Sequence[tuple[Contender, Task]], seeds: Sequence[int]) -> dict[str, list[Run]]:
    """Return the runs of each contender by name, one per seed; all contenders run one seed before the next."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender, _ in pairs}
    for seed in seeds:
        for contender, task in pairs:
            runs[contender.name].append(run(contender, dataclasses.replace(task, seed=seed)))
            said(f"{contender.name}: {runs[contender.name][-1].seconds:.1f} s")
    return runs


def said(line: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(f"{line}\n")
