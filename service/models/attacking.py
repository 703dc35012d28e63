"""The work behind /attack: priced before it runs, stopped at its deadline, told as the contract says. No HTTP in it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gauntlet import images, referee
from gauntlet.attacks import ATTACKS
from gauntlet.outcome import Outcome
from gauntlet.runtime import Classifier
from gauntlet.threat import Threat
from service.errors import Code, ServiceError
from service.http.codec import decode, encode
from service.http.schemas import AttackRequest, AttackResponse, AttackResult, AttackSummary, Transfer
from service.models.engine import Engine
from service.watch import metrics

OUTCOMES = ("success", "failure", "misclassified")


@dataclass(frozen=True)
class _Job:
    """A request whose every part has been checked."""

    request: AttackRequest
    model: Classifier
    others: Mapping[str, Classifier]
    threat: Threat
    minimum_norm: bool
    x: Tensor  # (n, C, H, W)
    y: Tensor  # (n,)
    target: Tensor | None  # (n,)


def attack(engine: Engine, request: AttackRequest, stop: Callable[[], None]) -> AttackResponse:
    """Check, price, run, measure. ``stop`` raises to end the run. Raises ServiceError or InvalidInput."""
    job = _check(engine, request)
    outcome = referee.run(
        job.model,
        request.attack,
        job.x,
        job.y,
        job.threat,
        seed=request.seed,
        params=request.params,
        target=job.target,
        eight_bit=request.format == "png",
        stop=stop,
    )
    _count(job, outcome)
    results = _results(job, outcome)
    return AttackResponse(
        model=job.model.name,
        model_sha256=job.model.manifest.model_sha256,
        attack=request.attack,
        norm=request.norm,
        eps=request.eps,
        results=results,
        summary=_summary(job, outcome),
    )


def _check(engine: Engine, request: AttackRequest) -> _Job:
    model = engine.classifier(request.model)
    others = {name: engine.classifier(name, f"transfer_to.{i}") for i, name in enumerate(request.transfer_to)}
    for i, other in enumerate(others.values()):
        if (other.manifest.input_shape, other.manifest.classes) != (model.manifest.input_shape, model.manifest.classes):
            message = f"{other.name} does not take the images or know the classes of {model.name}"
            raise ServiceError(Code.INVALID, message, field=f"transfer_to.{i}")
    if request.attack not in ATTACKS:
        known = sorted(ATTACKS)
        message = f"no attack is called {request.attack!r}; there are {', '.join(known)}"
        raise ServiceError(Code.UNKNOWN_ATTACK, message, field="attack", known=known)
    threat = Threat(request.norm, request.eps)
    referee.admit(model, request.attack)
    entry, params = referee.check(request.attack, threat, request.params, request.target_labels is not None)
    price(request, entry.gradient_steps(params), engine.settings.attack_budget)
    shape, limit = model.manifest.input_shape, engine.settings.max_images
    x = decode(request.images, shape, resize=request.resize, limit=limit)
    classes = len(model.manifest.classes)
    y = _labels(request.labels, len(x), classes, "labels")
    target = _labels(request.target_labels, len(x), classes, "target_labels")
    y = model.predict(x).argmax(dim=1) if y is None else y
    if target is not None and bool((target == y).any()):
        row = int((target == y).nonzero()[0])
        message = f"target_labels.{row}: the target is the image's own label"
        raise ServiceError(Code.INVALID, message, field=f"target_labels.{row}")
    return _Job(request, model, others, threat, entry.minimum_norm, x, y, target)


def price(request: AttackRequest, gradient_steps: int, budget: int) -> int:
    """Images x gradient steps x restarts x (1 + transfer models); more than the budget is ``too_expensive``."""
    cost = len(request.images) * gradient_steps * (1 + len(request.transfer_to))
    if cost > budget:
        message = (
            f"this attack costs {cost} gradient steps and the limit is {budget}: "
            "send fewer images, steps or models, or ask POST /robustness-report, which has no limit"
        )
        raise ServiceError(
            Code.TOO_EXPENSIVE, message, field="images", cost=cost, limit=budget, use="POST /robustness-report"
        )
    return cost


def _labels(values: list[int] | None, n: int, classes: int, field: str) -> Tensor | None:
    if values is None:
        return None
    if len(values) != n:
        raise ServiceError(Code.INVALID, f"{field}: {len(values)} of them for {n} images", field=field)
    for i, value in enumerate(values):
        if value >= classes:
            message = f"{field}.{i}: the model has the classes 0 to {classes - 1}"
            raise ServiceError(Code.INVALID, message, field=f"{field}.{i}")
    return torch.tensor(values)


def _count(job: _Job, outcome: Outcome) -> None:
    n, wrong, won = len(job.x), int((~outcome.correct).sum()), int(outcome.success.sum())
    name, attack, norm = job.model.name, job.request.attack, job.request.norm
    metrics.IMAGES.labels(name, "/attack").inc(n)
    for kind, count in zip(OUTCOMES, (won, n - won - wrong, wrong), strict=True):
        metrics.ATTACKED.labels(name, attack, kind).inc(count)
    for size in getattr(outcome, norm)[outcome.success].tolist():
        metrics.PERTURBATION.labels(name, attack, norm).observe(size)


def _results(job: _Job, outcome: Outcome) -> list[AttackResult]:
    transfer = {name: _transfer(job, other, outcome.images) for name, other in job.others.items()}
    form = job.request.format
    results = []
    for i in range(len(job.x)):
        success = bool(outcome.success[i])
        shown = success or not job.minimum_norm  # what is not returned is not described
        minimal = float(outcome.minimal["l2"][i])
        image = outcome.images[i]
        results.append(
            AttackResult(
                label=int(job.y[i]),
                clean_label=int(outcome.clean_label[i]),
                adversarial_label=int(outcome.adversarial_label[i]) if shown else None,
                success=success,
                l2=float(outcome.l2[i]) if shown else None,
                linf=float(outcome.linf[i]) if shown else None,
                minimal_l2=minimal if math.isfinite(minimal) else None,
                attack=outcome.by[i] if success else None,
                queries=int(outcome.queries[i]),
                image=encode(image, form) if shown else None,
                noise=encode(images.amplified(image - job.x[i]), form) if shown else None,
                transfer={name: rows[i] for name, rows in transfer.items()} if shown else {},
            )
        )
    return results


def _transfer(job: _Job, other: Classifier, shown: Tensor) -> list[Transfer]:
    before, after = other.predict(job.x).argmax(dim=1), other.predict(shown).argmax(dim=1)
    moved = after != job.y if job.target is None else after == job.target
    fooled = (before == job.y) & moved
    return [Transfer(label=label, fooled=hit) for label, hit in zip(after.tolist(), fooled.tolist(), strict=True)]


def _summary(job: _Job, outcome: Outcome) -> AttackSummary:
    labelled = job.request.labels is not None
    attacked = int(outcome.correct.sum())
    median = float(np.median(outcome.size("l2")[outcome.correct].numpy())) if attacked else math.inf
    return AttackSummary(
        n=len(job.x),
        clean_accuracy=float(outcome.correct.double().mean()) if labelled else None,
        robust_accuracy=float(outcome.robust.double().mean()) if labelled and job.request.eps is not None else None,
        success_rate=float(outcome.success.sum()) / attacked if attacked else None,
        median_l2=median if math.isfinite(median) else None,
        seconds=outcome.seconds,
    )
