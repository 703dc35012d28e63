"""Overhead of an attack step: its time beyond that of its forward and backward pass."""

import statistics
import time

import torch
from torch import Tensor

from bench.attacks.options import Options
from bench.attacks.race import said
from bench.attacks.records import Goal, table
from bench.attacks.section import Section
from bench.attacks.task import Counted, first_correct, open_counted
from gauntlet.artifacts.manifest import Frozen
from gauntlet.attacks import ATTACKS, price
from gauntlet.evaluation import referee
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat

N = 128
STEPS = 20
EPS = 1e-3  # of attacks at a fixed eps: too small for a success, so that all images stay in the batch
LIMIT = 0.1


class Overhead(Frozen):
    """The overhead of one attack, one value per round."""

    name: str
    whole: bool  # each step takes one forward and one backward pass of every image
    bare: tuple[float, ...]  # seconds per step, without the engine
    engine: tuple[float, ...]  # seconds per step of the attack

    @property
    def share(self) -> float:
        pairs = zip(self.engine, self.bare, strict=True)
        return statistics.median(engine / bare - 1 for engine, bare in pairs)


def run(options: Options) -> Section:
    """Measure every attack of ours that takes gradient steps."""
    model = open_counted(options.model)
    x, y = first_correct(model, options.n or N)
    steps = options.steps or STEPS
    results = [
        measure(model, name, x, y, steps, options.rounds)
        for name, entry in ATTACKS.items()
        if entry.access == "gradient" and "steps" in entry.params.model_fields
    ]
    whole = [found for found in results if found.whole]
    return Section(
        name="overhead",
        title=f"Overhead of a step over bare forward and backward, {options.model}, batch {len(x)}",
        text=_table(results),
        results={"all": results},
        goals=[Goal(text=f"{found.name}: overhead of a step", value=found.share, limit=LIMIT) for found in whole],
    )


def measure(model: Classifier, attack: str, x: Tensor, y: Tensor, steps: int, rounds: int) -> Overhead:
    """Measure the seconds per step, as the difference between runs with ``2 * steps`` and ``steps`` steps.

    The difference excludes the fixed cost of a run. The first run is not timed: it includes the allocation of memory.
    """
    _attacked(model, attack, x, y, 2 * steps)
    bare, engine, whole = [], [], True
    for _ in range(rounds):
        bare.append(_bare(model, x, y, steps) / steps)
        short, long = (_attacked(model, attack, x, y, count) for count in (steps, 2 * steps))
        short_price, long_price = (price(attack, {"steps": count}) for count in (steps, 2 * steps))
        forwards, backwards = long[1] - short[1], long[2] - short[2]
        whole = whole and forwards == backwards == len(x) * (long_price - short_price)
        engine.append((long[0] - short[0]) / (long_price - short_price))
    said(f"{attack}: {statistics.median(engine):.4f} s per step, bare {statistics.median(bare):.4f} s")
    return Overhead(name=f"gauntlet {attack}", whole=whole, bare=tuple(bare), engine=tuple(engine))


def _bare(model: Classifier, x: Tensor, y: Tensor, steps: int) -> float:
    x, y = x.to(model.device).requires_grad_(), y.to(model.device)
    start = time.perf_counter()
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model.twin(x), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    float(gradient.sum())  # waits for a GPU
    return time.perf_counter() - start


def _attacked(model: Classifier, attack: str, x: Tensor, y: Tensor, steps: int) -> tuple[float, int, int]:
    """Run the attack; return seconds, and the numbers of images in forward and backward passes."""
    entry, twin = ATTACKS[attack], model.twin
    assert isinstance(twin, Counted)
    norm = "linf" if "linf" in entry.norms else min(entry.norms)
    threat = Threat(norm, None if entry.minimum_norm else EPS)
    before = twin.forwards, twin.backwards
    start = time.perf_counter()
    referee.run(model, attack, x, y, threat, params={"steps": steps})
    seconds = time.perf_counter() - start
    return seconds, twin.forwards - before[0], twin.backwards - before[1]


def _table(results: list[Overhead]) -> str:
    rows = [
        [
            found.name,
            f"{1000 * statistics.median(found.engine):.1f}",
            f"{1000 * statistics.median(found.bare):.1f}",
            f"{100 * found.share:+.1f} %" if found.whole else "not comparable: not one pass of every image per step",
        ]
        for found in results
    ]
    return table(["attack", "ms per step", "ms bare", "overhead"], rows)
