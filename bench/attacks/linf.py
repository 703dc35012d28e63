"""Robust accuracy in Linf of adversarially trained classifiers: our ensemble beside every AutoAttack there is."""

import statistics

from bench.attacks import goals, judge, ours, peers, race
from bench.attacks.options import Options
from bench.attacks.records import Robust, table
from bench.attacks.section import Section
from bench.attacks.task import Contender, Task, correct, open_counted, test_images
from gauntlet.errors import InvalidInput

N = 1000
EPS = {"mnist": 0.3, "fashion-mnist": 0.1, "cifar10": 8 / 255}


def run(options: Options) -> Section:
    """Every model named, at its data set's eps, on its first n test images."""
    if not options.adversarial:
        raise InvalidInput("there is no model whose name ends in -adversarial; name one with --adversarial", "model")
    n = options.n or N
    results = {name: measure(name, n, options) for name in options.adversarial}
    return Section(
        name="-".join(("linf", *options.adversarial)),
        title=f"Linf robust accuracy, first {n} test images, {options.seeds} seeds",
        text="\n".join(_table(found, n) for found in results.values()),
        results=results,
        goals=[goal for found in results.values() for goal in goals.robust(found)],
    )


def measure(name: str, n: int, options: Options) -> list[Robust]:
    """All ensembles on the images that the model classifies correctly; each seed is a round."""
    model = open_counted(name)
    x, y = correct(model, *test_images(model, n))
    eps = options.eps or EPS[model.manifest.dataset]
    task = Task(model, x, y, steps=options.steps or peers.STANDARD, eps=eps)
    pairs = race.prepared((ours.strongest("linf"), *peers.AUTO), task, options.batches)
    runs = race.alternated(pairs, range(options.seed, options.seed + options.seeds))
    return [_result(contender, own, runs[contender.name]) for contender, own in pairs]


def _result(contender: Contender, task: Task, runs: list[race.Run]) -> Robust:
    assert task.eps is not None
    lost = [judge.broken(task.model, task.x, task.y, run.images, task.eps) for run in runs]
    return Robust(
        model=f"{task.model.name}, eps {task.eps:.4g}",
        name=contender.name,
        ours=contender.ours,
        batch=task.batch,
        standing=tuple(int((~broken).sum()) for broken in lost),
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
    return f"{results[0].model}\n\n" + table(["ensemble", "batch", "robust accuracy", "seconds", "passes"], rows)
