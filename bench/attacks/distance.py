"""The race for the smallest L2, and what both parts that run it ask of its results."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch

from bench.attacks import judge, race
from bench.attacks.options import Options
from bench.attacks.records import Distances, Goal, Point, middle
from bench.attacks.task import Contender, Task


def measure(contenders: Iterable[Contender], task: Task, options: Options) -> list[Distances]:
    """All contenders on the same images, ``options.rounds`` times in turn, then once with each share of their steps."""
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
    about = task.model, task.x, task.y, last.images
    found = Distances(
        name=contender.name,
        ours=contender.ours,
        steps=task.steps,
        batch=task.batch,
        seconds=tuple(run.seconds for run in runs),
        forwards=last.forwards,
        backwards=last.backwards,
        within_cap=last.passes <= allowed,
        returned=tuple(judge.returned(*about).tolist()),
        nudged=tuple(judge.nudged(*about).tolist()),
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


def peers(results: Iterable[Distances]) -> list[Distances]:
    """Those that count against us."""
    return [found for found in results if not found.ours and found.within_cap]


def named(results: Iterable[Distances], text: str) -> list[Distances]:
    return [found for found in results if found.name.startswith(text)]


def nearest(results: Sequence[Distances]) -> Distances:
    """The contender with the smallest mean."""
    return min(results, key=lambda found: found.mean)


def together(results: Sequence[Distances]) -> float:
    """The mean over images of the best that any of them did on each."""
    return float(torch.stack([found.l2 for found in results]).amin(dim=0).mean())


def no_farther(ours: Distances, peers: Sequence[Distances], measure: str, of: Callable[[Distances], float]) -> Goal:
    """A goal: ours is at most the smallest of theirs."""
    best = min(peers, key=of)
    return Goal(text=f"{ours.name}: {measure}, at most that of {best.name}", value=of(ours), limit=of(best))


def no_slower(ours: Distances, peer: Distances, share: float) -> Goal:
    """A goal: ours takes at most this share of their time."""
    text = f"{ours.name}: time as a share of that of {peer.name}"
    return Goal(text=text, value=ours.time / peer.time, limit=share)
