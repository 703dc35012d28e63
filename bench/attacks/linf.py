"""Linf robust accuracy of adversarially trained classifiers: our ensemble against other libraries' AutoAttacks.

It takes hours, so the result of every run is cached in ``<out>/linf``, and reused as long as everything on which it
depends stays the same.
"""

import dataclasses
import hashlib
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch

import gauntlet
from bench.attacks import goals, judge, ours, peers, race
from bench.attacks.options import Options
from bench.attacks.records import Robust, table
from bench.attacks.section import Section, versions
from bench.attacks.task import Contender, Task, correct, images_to_test, open_counted
from gauntlet.artifacts.manifest import Frozen
from gauntlet.errors import InvalidInput
from training.provenance import hardware

N = 1000
EPS = {"mnist": 0.3, "fashion-mnist": 0.1, "cifar10": 8 / 255}
ENGINE = Path(gauntlet.__file__).parent


class Kept(Frozen):
    """The cached result of one run of an ensemble."""

    about: Mapping[str, str]  # the cache key: everything on which the result depends
    batch: int
    broken: tuple[int, ...]  # indices among the attacked images
    seconds: float
    passes: float


def run(options: Options) -> Section:
    """Measure every named model at its data set's eps, on its first n test images, or on n after those skipped."""
    if not options.adversarial:
        raise InvalidInput("there is no model whose name ends in -adversarial; name one with --adversarial", "model")
    n = options.n or N
    results = {name: measure(name, n, options) for name in options.adversarial}
    suffix, after = (f"-after-{options.skip}", f" after the first {options.skip}") if options.skip else ("", "")
    return Section(
        name="-".join(("linf", *options.adversarial)) + suffix,
        title=f"Linf robust accuracy of {' and '.join(options.adversarial)}, first {n} test images{after}",
        text="\n".join(_table(found, n) for found in results.values()),
        results=results,
        goals=[goal for found in results.values() for goal in goals.robust(found)],
    )


def measure(name: str, n: int, options: Options) -> list[Robust]:
    """Run all ensembles on the images that the model classifies correctly, once per seed."""
    task = task_of(name, n, options)
    contenders = (ours.strongest("linf"), *peers.AUTO)
    results = []
    for contender in contenders:
        count = options.seeds if contender.ours else options.peer_seeds or options.seeds
        runs = [once(contender, seed, task, options) for seed in range(options.seed, options.seed + count)]
        results.append(_result(contender, task, runs))
    return results


def task_of(name: str, n: int, options: Options) -> Task:
    """Return the task: the test images that the model classifies correctly."""
    model = open_counted(name)
    x, y = correct(model, *images_to_test(model, n, options.skip))
    eps = options.eps or EPS[model.manifest.dataset]
    return Task(model, x, y, steps=options.steps or peers.STANDARD, eps=eps)


def once(contender: Contender, seed: int, task: Task, options: Options) -> Kept:
    """Return the cached run with this seed, or run the contender at its best batch size and cache the result."""
    about = _about(contender, seed, task)
    skipped = f" after {options.skip}" if options.skip else ""
    path = options.out / "linf" / f"{task.model.name}{skipped}, {contender.name}, {seed}.json"
    if path.is_file():
        kept = Kept.model_validate_json(path.read_bytes())
        if kept.about == about:
            return kept
    ((_, own),) = race.prepared([contender], task, options.batches)
    found = race.run(contender, dataclasses.replace(own, seed=seed))
    broken = judge.broken(task.model, task.x, task.y, found.images, task.budget).nonzero().squeeze(1)
    kept = Kept(about=about, batch=own.batch, broken=tuple(broken.tolist()), seconds=found.seconds, passes=found.passes)
    race.said(f"{path.stem}: {len(task.x) - len(broken)} stand after {found.seconds:.1f} s")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(kept.model_dump_json())
    return kept


def _about(contender: Contender, seed: int, task: Task) -> dict[str, str]:
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(ENGINE.rglob("*.py"))))
    described = f"{len(task.x)} images, eps {task.eps}, {task.steps} steps, seed {seed}"
    return {
        "model": task.model.manifest.model_sha256,
        "task": described,
        "where": f"{hardware(torch.device('cpu'))}, {torch.get_num_threads()} threads",
        "code": code.hexdigest() if contender.ours else str(versions()),
    }


def _result(contender: Contender, task: Task, runs: list[Kept]) -> Robust:
    return Robust(
        model=f"{task.model.name}, eps {task.budget:.4g}",
        name=contender.name,
        ours=contender.ours,
        batch=runs[0].batch,
        standing=tuple(len(task.x) - len(run.broken) for run in runs),
        seconds=tuple(run.seconds for run in runs),
        passes=tuple(run.passes for run in runs),
    )


def _table(results: list[Robust], n: int) -> str:
    rows = [
        [
            found.name,
            "own" if found.ours else str(found.batch),
            ", ".join(f"{count / n:.4f}" for count in found.standing),
            f"{found.time:.1f}",
            f"{statistics.median(found.passes):.0f}",
        ]
        for found in results
    ]
    head = ["ensemble", "batch", "robust accuracy by seed", "seconds", "passes"]
    return f"{results[0].model}\n\n" + table(head, rows)
