"""Measuring one cell: the only part of a report that runs a network."""

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gauntlet import blind, checks, images, referee
from gauntlet.attacks.base import margin
from gauntlet.evalset import EvalSet
from gauntlet.norms import NORMS, Norm
from gauntlet.outcome import Outcome
from gauntlet.randomness import Keyed
from gauntlet.report import smoothed
from gauntlet.report.records import SmoothedMeasurement
from gauntlet.report.schema import (
    AttackMeasurement,
    Cell,
    CellResult,
    CheckRecord,
    CleanMeasurement,
    Example,
    Probe,
    ReportRequest,
)
from gauntlet.runtime import Classifier
from gauntlet.threat import TINY, Threat, l2, unit

CHUNK = {"cpu": 128, "cuda": 1024}
"""Images held at once, by type of device: bounds memory, changes no result."""

EXAMPLES = 3  # kept per cell
PROBED = 32  # images around which the Jacobian is computed
NEARBY = (0.0, 0.25, 1.0)  # L2 distances from the image at which it is


def nothing() -> None:
    """A ``stop`` that never stops."""


def ignore(_: int) -> None:
    """An ``on_images`` that nobody listens to."""


def measure(
    cell: Cell,
    request: ReportRequest,
    models: Mapping[str, Classifier],
    evalset: EvalSet,
    *,
    images: tuple[int, int] | None = None,
    stop: Callable[[], None] = nothing,
    on_images: Callable[[int], None] = ignore,
    chunk: int | None = None,
) -> CellResult:
    """Run one cell, an attack's on ``images`` (first, behind the last) if only on those. ``stop`` is called before
    every model evaluation and raises to end it; ``on_images`` hears how many images are done. The result is the same
    for every ``chunk``, seconds apart.
    """
    first, last = images or (0, request.n)
    assert cell.kind == "attack" or (first, last) == (0, request.n)  # the others look at all their images together
    x, y = evalset.part(first, last)
    model = models[cell.model]
    task = _Task(model, x, y, first, chunk or CHUNK[model.device.type], stop, on_images)
    others = {name: models[name] for name in request.models if name != cell.model}
    started = time.perf_counter()
    clean = _measure_clean(task, request.seed) if cell.kind == "clean" else None
    examined = _measure_checks(task, request.seed) if cell.kind == "checks" else None
    voted = _measure_smoothed(task, request) if cell.kind == "smoothing" else None
    attack = _measure_attack(task, cell, request.seed, others) if cell.kind == "attack" else None
    seconds = round(time.perf_counter() - started, 3)
    verdicts, probe = examined or (None, None)
    return CellResult(
        cell=cell,
        n=len(x),
        seconds=seconds,
        clean=clean,
        checks=verdicts,
        probe=probe,
        smoothed=voted,
        attack=attack,
    )


def rounded(values: Tensor) -> list[float]:
    """To seven significant digits, which is what float32 images can tell."""
    return [float(f"{value:.7g}") for value in values.tolist()]


def example_size(distance: float) -> float:
    """By which examples are ranked. Rounded: a fixed budget is used up to a last bit that differs between machines."""
    return round(distance, 4)


def local_slopes(model: Classifier, x: Tensor, seed: int) -> list[float]:
    """The largest spectral norm of the logits' Jacobian at, and at random points near, each image (B, C, H, W).

    A local Lipschitz estimate from below: no L2 constant that is proved can be smaller. Without gradients, how far the
    logits move for a small step.
    """
    ways = unit(Keyed.span(seed, 0, len(x)).normal(0, tuple(x.shape[1:])))
    if not model.manifest.differentiable:
        return rounded(_rises(model, x, ways))
    norms = [_jacobian_norms(model, (x + distance * ways).clamp(0, 1)) for distance in NEARBY]
    return rounded(torch.stack(norms).amax(dim=0))


def _rises(model: Classifier, x: Tensor, ways: Tensor) -> Tensor:
    """Change of the logits over the way gone, at each image (B, C, H, W): (B,) float64."""
    moved = (x + NEARBY[1] * ways).clamp(0, 1)
    gone = l2(moved.double() - x.double())
    return (model.predict(moved).double() - model.predict(x).double()).norm(dim=1) / gone.clamp_min(TINY)


def _jacobian_norms(model: Classifier, x: Tensor) -> Tensor:
    """Spectral norm of the logits' Jacobian at each image (B, C, H, W): (B,) float64."""
    with torch.enable_grad():
        point = x.to(model.device).requires_grad_()
        logits = model.twin(point)  # (B, K)
        rows = [torch.autograd.grad(z.sum(), point, retain_graph=True)[0].flatten(1) for z in logits.unbind(dim=1)]
    jacobians = torch.stack(rows, dim=1).double()  # (B, K, C*H*W)
    return torch.linalg.matrix_norm(jacobians, ord=2).cpu()


@dataclass(frozen=True)
class _Task:
    """One model, the images it meets and how they are gone through."""

    model: Classifier
    x: Tensor  # (n, C, H, W)
    y: Tensor  # (n,)
    first: int  # index of the first of them
    chunk: int
    stop: Callable[[], None]
    on_images: Callable[[int], None]

    def chunks(self) -> Iterator[slice]:
        n = len(self.x)
        for first in range(0, n, self.chunk):
            self.stop()
            yield slice(first, min(first + self.chunk, n))
            self.on_images(min(first + self.chunk, n))


def _measure_clean(task: _Task, seed: int) -> CleanMeasurement:
    labels: list[int] = []
    margins: list[float] = []
    radii: list[float] = []
    for rows in task.chunks():
        logits = task.model.predict(task.x[rows])  # (B, K)
        labels += logits.argmax(dim=1).tolist()
        margins += rounded(margin(logits.double(), task.y[rows]))
        radius = task.model.certificate.radius(logits)
        radii += [] if radius is None else radius.tolist()  # not rounded: a radius must not grow
    return CleanMeasurement(
        labels=labels,
        margins=margins,
        radii=radii or None,
        slopes=local_slopes(task.model, task.x[:PROBED], seed),
    )


def _measure_checks(task: _Task, seed: int) -> tuple[list[CheckRecord], Probe]:
    examine = checks.examine if task.model.manifest.differentiable else blind.examine
    found = examine(task.model, task.x, task.y, seed=seed, stop=task.stop)
    task.on_images(len(task.x))
    records = [
        CheckRecord(
            name=name,
            passed=verdict.passed,
            measured=verdict.measured,
            meaning=checks.CHECKS[name].meaning,
            advice=checks.CHECKS[name].advice,
        )
        for name, verdict in found.verdicts.items()
    ]
    return records, Probe(broken=found.places.tolist(), l2=rounded(found.l2))


def _measure_smoothed(task: _Task, request: ReportRequest) -> SmoothedMeasurement:
    assert request.smoothing is not None
    smoothing = request.smoothing.of(task.model.manifest.sigma, task.model.name)
    x = task.x[: request.smoothing.images]
    return smoothed.measure(
        task.model,
        x,
        smoothing,
        seed=request.seed,
        stop=task.stop,
        on_images=lambda done: task.on_images(len(task.x) * done // len(x)),
    )


def _measure_attack(task: _Task, cell: Cell, seed: int, others: Mapping[str, Classifier]) -> AttackMeasurement:
    assert cell.attack is not None
    assert cell.norm is not None
    kept = _Successes(cell.norm, transfer={name: [] for name in others})
    for rows in task.chunks():
        x, y, threat = task.x[rows], task.y[rows], Threat(cell.norm, cell.eps)
        index = task.first + torch.arange(rows.start, rows.stop)
        outcome = referee.run(task.model, cell.attack, x, y, threat, seed=seed, index=index, stop=task.stop)
        task.stop()
        kept.add(outcome, x, task.first + rows.start, others)
    return AttackMeasurement(
        broken=kept.broken,
        labels=kept.labels,
        distances=kept.distances,
        transfer=kept.transfer,
        queries=kept.queries,
        by=kept.by,
        examples=[_example(kept, task.y, task.first, picture) for picture in kept.pictures],
    )


@dataclass(frozen=True)
class _Picture:
    """A candidate for an example: ``position`` is its place among the successes."""

    size: float
    position: int
    clean: Tensor  # (C, H, W)
    adversarial: Tensor


@dataclass
class _Successes:
    """What is kept of the images that an attack broke, in order of their index."""

    norm: Norm
    transfer: dict[str, list[int]]
    broken: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    distances: dict[Norm, list[float]] = field(default_factory=lambda: {norm: [] for norm in NORMS})
    queries: int = 0
    by: Counter[str] = field(default_factory=Counter)
    pictures: list[_Picture] = field(default_factory=list)

    def add(self, outcome: Outcome, x: Tensor, first: int, others: Mapping[str, Classifier]) -> None:
        """Take in the outcome for x (B, C, H, W), the images from index ``first`` on."""
        won = outcome.success.nonzero().squeeze(1)  # (S,)
        start = len(self.broken)
        self.broken += (won + first).tolist()
        self.labels += outcome.adversarial_label[won].tolist()
        self.queries += int(outcome.queries.sum())
        self.by.update(outcome.by[row] for row in won.tolist())
        for norm in NORMS:
            self.distances[norm] += rounded(getattr(outcome, norm)[won])
        for name, other in others.items():
            self.transfer[name] += other.predict(outcome.images[won]).argmax(dim=1).tolist() if len(won) else []
        for position, row in enumerate(won.tolist(), start):
            size = example_size(self.distances[self.norm][position])
            self.pictures.append(_Picture(size, position, x[row], outcome.images[row]))
        self.pictures = sorted(self.pictures, key=lambda picture: (picture.size, picture.position))[:EXAMPLES]


def _example(kept: _Successes, y: Tensor, first: int, picture: _Picture) -> Example:
    index = kept.broken[picture.position]
    return Example(
        index=index,
        label=int(y[index - first]),
        adversarial_label=kept.labels[picture.position],
        l2=kept.distances["l2"][picture.position],
        linf=kept.distances["linf"][picture.position],
        clean=_base64(picture.clean),
        adversarial=_base64(picture.adversarial),
        noise=_base64(images.amplified(picture.adversarial - picture.clean)),
    )


def _base64(image: Tensor) -> str:
    return base64.b64encode(images.to_png(image)).decode("ascii")
