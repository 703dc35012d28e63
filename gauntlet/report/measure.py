"""Measuring one cell: the only step of a report that runs a network."""

import base64
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gauntlet import predicted_labels
from gauntlet.artifacts import image_conversion
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.attacks.base import margin
from gauntlet.checks import black_box, white_box
from gauntlet.evaluation import referee
from gauntlet.evaluation.local_slopes import local_slopes
from gauntlet.evaluation.outcome import Outcome
from gauntlet.norms import NORMS, Norm
from gauntlet.report import bounded_radii, preprocessing_check, probabilities, smoothed_classifier
from gauntlet.report.plan import bounded_distances
from gauntlet.report.records import BoundsMeasurement, SmoothedMeasurement
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
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat

CHUNK = {"cpu": 128, "cuda": 1024}
"""Images per batch, by type of device: limits memory, and changes results by no more than rounding."""

EXAMPLES = 3  # stored per cell, at most
TOP, FEW_CLASSES = 5, 20  # top-5 accuracy is measured for models with more classes than FEW_CLASSES
PROBED, PROBED_VALUES = 32, 2**18  # images around which the slope is measured, and their pixel values, at most


def nothing() -> None:
    """Do nothing: the default ``check_cancelled``, which never raises."""


def ignore(_: int) -> None:
    """Do nothing: the default ``on_images``."""


def measure(
    cell: Cell,
    request: ReportRequest,
    models: Mapping[str, Classifier],
    evalset: EvalSet,
    *,
    images: tuple[int, int] | None = None,
    check_cancelled: Callable[[], None] = nothing,
    on_images: Callable[[int], None] = ignore,
    chunk: int | None = None,
) -> CellResult:
    """Measure one cell. The cell of an attack can be limited to a range of ``images`` (first, last + 1).

    ``check_cancelled`` is called before every model evaluation and raises if the job is cancelled; ``on_images``
    receives the number of images done. Random draws and the attack on each image do not depend on ``chunk`` (images
    per batch); rounding does.
    """
    first, last = images or (0, request.n)
    assert cell.kind == "attack" or (first, last) == (0, request.n)  # the other kinds need all their images together
    x, y = map(torch.from_numpy, evalset.part(first, last))
    model = models[cell.model]
    task = _Task(model, x, y, first, chunk or CHUNK[model.device.type], check_cancelled, on_images)
    others = {name: models[name] for name in request.models if name != cell.model}
    started = time.perf_counter()
    clean = _measure_clean(task, request.seed, evalset) if cell.kind == "clean" else None
    examined = _measure_checks(task, request) if cell.kind == "checks" else None
    voted = _measure_smoothed(task, request) if cell.kind == "smoothing" else None
    bounded = _measure_bounds(task, request) if cell.kind == "bounds" else None
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
        bounds=bounded,
        attack=attack,
    )


def rounded(values: Tensor) -> list[float]:
    """Round to seven significant digits, the precision of float32."""
    return [float(f"{value:.7g}") for value in values.tolist()]


def example_size(distance: float) -> float:
    """Return the size by which examples are ranked.

    Rounded: attacks with a fixed budget use all of it, up to a last bit that differs between machines.
    """
    return round(distance, 4)


@dataclass(frozen=True)
class _Task:
    """One model, the images to measure it on, and how to iterate over them in chunks."""

    model: Classifier
    x: Tensor  # (n, C, H, W)
    y: Tensor  # (n,)
    first: int  # index of the first image in the evaluation set
    chunk: int
    check_cancelled: Callable[[], None]
    on_images: Callable[[int], None]

    def chunks(self) -> Iterator[slice]:
        n = len(self.x)
        for first in range(0, n, self.chunk):
            self.check_cancelled()
            yield slice(first, min(first + self.chunk, n))
            self.on_images(min(first + self.chunk, n))


def _measure_clean(task: _Task, seed: int, evalset: EvalSet) -> CleanMeasurement:
    parts, radii = [], list[float]()
    for rows in task.chunks():
        parts.append(logits := task.model.predict(task.x[rows]))  # (B, K)
        radius = task.model.certificate.radius(logits)
        radii += [] if radius is None else radius.tolist()  # not rounded: rounding might enlarge a radius
    logits = torch.cat(parts)  # (n, K)
    margins = rounded(margin(logits.double(), task.y))
    judged = probabilities.judged(task.model.manifest, evalset, len(task.x))
    return CleanMeasurement(
        labels=predicted_labels.labels(logits).tolist(),
        margins=[value if math.isfinite(value) else None for value in margins],
        top5=predicted_labels.among_likeliest(logits, task.y, TOP).tolist() if logits.shape[1] > FEW_CLASSES else None,
        radii=radii or None,
        slopes=local_slopes(task.model, task.x[: _probed(task.x)], seed),
        probabilities=probabilities.measurement(logits, judged, probabilities.temperature_of(task.model, evalset)),
    )


def _probed(x: Tensor) -> int:
    """Return how many images the slope is measured around: fewer if they are large, as each takes dozens of passes."""
    return min(PROBED, max(1, PROBED_VALUES // max(1, x[:1].numel())))


def _measure_checks(task: _Task, request: ReportRequest) -> tuple[list[CheckRecord], Probe]:
    examine = white_box.examine if task.model.manifest.differentiable else black_box.examine
    x, y = task.x[: request.checked], task.y[: request.checked]
    found = examine(task.model, x, y, seed=request.seed, check_cancelled=task.check_cancelled)
    task.on_images(len(task.x))
    records = [
        CheckRecord(
            name=name,
            passed=verdict.passed,
            measured=verdict.measured,
            meaning=white_box.CHECKS[name].meaning,
            advice=white_box.CHECKS[name].advice,
        )
        for name, verdict in found.verdicts.items()
    ]
    records += preprocessing_check.check(task.model, task.x, task.y)
    return records, Probe(broken=found.places.tolist(), l2=rounded(found.l2))


def _measure_smoothed(task: _Task, request: ReportRequest) -> SmoothedMeasurement:
    assert request.smoothing is not None
    smoothing = request.smoothing.of(task.model.manifest.sigma, task.model.name)
    x = task.x[: request.smoothing.images]
    return smoothed_classifier.measure(
        task.model,
        x,
        smoothing,
        seed=request.seed,
        check_cancelled=task.check_cancelled,
        on_images=lambda done: task.on_images(len(task.x) * done // len(x)),
    )


def _measure_bounds(task: _Task, request: ReportRequest) -> BoundsMeasurement:
    assert request.bounds is not None
    return bounded_radii.measure(
        task.model,
        task.x,
        request.bounds,
        bounded_distances(request),
        check_cancelled=task.check_cancelled,
        on_images=task.on_images,
    )


def _measure_attack(task: _Task, cell: Cell, seed: int, others: Mapping[str, Classifier]) -> AttackMeasurement:
    assert cell.attack is not None
    assert cell.norm is not None
    successes = _Successes(cell.norm, transfer={name: [] for name in others})
    for rows in task.chunks():
        x, y, threat = task.x[rows], task.y[rows], Threat(cell.norm, cell.eps)
        index = task.first + torch.arange(rows.start, rows.stop)
        outcome = referee.run(
            task.model, cell.attack, x, y, threat, seed=seed, index=index, check_cancelled=task.check_cancelled
        )
        task.check_cancelled()
        successes.add(outcome, x, task.first + rows.start, others)
    return AttackMeasurement(
        broken=successes.broken,
        labels=successes.labels,
        distances=successes.distances,
        transfer=successes.transfer,
        queries=successes.queries,
        by=successes.by,
        examples=[_example(successes, task.y, task.first, picture) for picture in successes.pictures],
    )


@dataclass(frozen=True)
class _Picture:
    """A candidate for the examples of the cell; ``position`` is its index among the successes."""

    size: float
    position: int
    clean: Tensor  # (C, H, W)
    adversarial: Tensor


@dataclass
class _Successes:
    """The results on the images that an attack broke, in order of their index."""

    norm: Norm
    transfer: dict[str, list[int]]
    broken: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    distances: dict[Norm, list[float]] = field(default_factory=lambda: {norm: [] for norm in NORMS})
    queries: int = 0
    by: Counter[str] = field(default_factory=Counter)
    pictures: list[_Picture] = field(default_factory=list)

    def add(self, outcome: Outcome, x: Tensor, first: int, others: Mapping[str, Classifier]) -> None:
        """Append the outcome for x (B, C, H, W), the images from index ``first`` on."""
        won = outcome.success.nonzero().squeeze(1)  # (S,)
        start = len(self.broken)
        self.broken += (won + first).tolist()
        self.labels += outcome.adversarial_label[won].tolist()
        self.queries += int(outcome.queries.sum())
        self.by.update(outcome.by[row] for row in won.tolist())
        for norm in NORMS:
            self.distances[norm] += rounded(getattr(outcome, norm)[won])
        for name, other in others.items():
            self.transfer[name] += (
                predicted_labels.labels(other.predict(outcome.images[won])).tolist() if len(won) else []
            )
        for position, row in enumerate(won.tolist(), start):
            size = example_size(self.distances[self.norm][position])
            self.pictures.append(_Picture(size, position, x[row], outcome.images[row]))
        self.pictures = sorted(self.pictures, key=lambda picture: (picture.size, picture.position))[:EXAMPLES]


def _example(successes: _Successes, y: Tensor, first: int, picture: _Picture) -> Example:
    index = successes.broken[picture.position]
    return Example(
        index=index,
        label=int(y[index - first]),
        adversarial_label=successes.labels[picture.position],
        l2=successes.distances["l2"][picture.position],
        linf=successes.distances["linf"][picture.position],
        clean=_base64(picture.clean),
        adversarial=_base64(picture.adversarial),
        noise=_base64(image_conversion.amplified(picture.adversarial - picture.clean)),
    )


def _base64(image: ArrayLike) -> str:
    return base64.b64encode(image_conversion.to_png(image)).decode("ascii")
