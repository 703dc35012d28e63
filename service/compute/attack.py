"""The use case behind POST /attack: run an attack, let the referee measure it, show its images to other models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gauntlet.evaluation import referee
from gauntlet.evaluation.outcome import Outcome
from gauntlet.predicted_labels import labels
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat
from gauntlet.unanswered_label import UNANSWERED
from service.observability import metrics

OUTCOMES = ("success", "failure", "misclassified")


@dataclass(frozen=True)
class AttackJob:
    """An attack whose every part has been checked."""

    model: Classifier
    attack: str
    params: Mapping[str, Any]
    threat: Threat
    seed: int
    x: Tensor  # (n, C, H, W)
    y: Tensor  # (n,)
    target: Tensor | None  # (n,)
    others: Mapping[str, Classifier]  # to show the images to
    eight_bit: bool  # successes must survive rounding to 8 bits


@dataclass(frozen=True)
class Transferred:
    """What another model says of the images returned."""

    label: Tensor  # (n,); UNANSWERED where it has none
    fooled: Tensor  # (n,): right on the clean image, and wrong (or: the target) on this one


@dataclass(frozen=True)
class AttackOutcome:
    measured: Outcome
    transfer: Mapping[str, Transferred]


def run(job: AttackJob, check_cancelled: Callable[[], None]) -> AttackOutcome:
    """``check_cancelled`` raises to end the run. Raises InvalidInput or ModelFailed."""
    measured = referee.run(
        job.model,
        job.attack,
        job.x,
        job.y,
        job.threat,
        seed=job.seed,
        params=job.params,
        target=job.target,
        eight_bit=job.eight_bit,
        check_cancelled=check_cancelled,
    )
    _count(job, measured)
    return AttackOutcome(measured, {name: _transfer(job, other, measured.images) for name, other in job.others.items()})


def _transfer(job: AttackJob, other: Classifier, images: Tensor) -> Transferred:
    before, after = labels(other.predict(job.x)), labels(other.predict(images))
    moved = after != job.y if job.target is None else after == job.target
    return Transferred(after, (before == job.y) & moved & (before != UNANSWERED) & (after != UNANSWERED))


def _count(job: AttackJob, outcome: Outcome) -> None:
    n, wrong, won = len(job.x), int((~outcome.correct).sum()), int(outcome.success.sum())
    name, norm = job.model.name, job.threat.norm
    metrics.IMAGES.labels(name, "/attack").inc(n)
    for kind, count in zip(OUTCOMES, (won, n - won - wrong, wrong), strict=True):
        metrics.ATTACKED.labels(name, job.attack, kind).inc(count)
    for size in getattr(outcome, norm)[outcome.success].tolist():
        metrics.PERTURBATION.labels(name, job.attack, norm).observe(size)
