"""Measurement of minimum-norm attacks: the smallest L2 that each contender finds, and its time."""

import dataclasses
from collections.abc import Iterable, Sequence

from bench.attacks import judge, race
from bench.attacks.options import Options
from bench.attacks.records import Distances, Point, middle
from bench.attacks.task import Contender, Task


def measure(contenders: Iterable[Contender], task: Task, options: Options) -> list[Distances]:
    """Run all contenders on the same images, ``options.rounds`` times in turn, then once per share of their steps."""
    pairs = race.prepared(contenders, task, options.batches)
    runs = race.alternated(pairs, [options.seed] * options.rounds)
    return [
        _result(contender, own, runs[contender.name], race.cap(task.steps), _curve(contender, own, options))
        for contender, own in pairs
    ]


def _result(
    contender: Contender, task: Task, runs: Sequence[race.Run], allowed: float, curve: Sequence[Point]
) -> Distances:
    last = runs[-1]
    judged = task.model, task.x, task.y, last.images
    found = Distances(
        name=contender.name,
        ours=contender.ours,
        steps=task.steps,
        batch=task.batch,
        seconds=tuple(run.seconds for run in runs),
        forwards=last.forwards,
        backwards=last.backwards,
        within_cap=last.passes <= allowed,
        returned=tuple(judge.returned(*judged).tolist()),
        nudged=tuple(judge.nudged(*judged).tolist()),
    )
    whole = Point(steps=task.steps, seconds=found.time, median=found.median, mean=found.mean)
    return found.model_copy(update={"curve": (*curve, whole)})


def _curve(contender: Contender, task: Task, options: Options) -> list[Point]:
    points = []
    for share in options.shares if contender.capped else ():
        part = dataclasses.replace(task, steps=max(1, round(share * task.steps)))
        run = race.run(contender, part)
        l2 = (judge.returned if contender.ours else judge.nudged)(task.model, task.x, task.y, run.images)
        points.append(Point(steps=part.steps, seconds=run.seconds, median=middle(l2), mean=float(l2.mean())))
    return points
