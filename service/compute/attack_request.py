"""POST /attack: the request checked, priced and decoded; the outcome as the contract has it."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gauntlet.artifacts import image_conversion
from gauntlet.artifacts.manifest import ClassifierManifest, Unopened
from gauntlet.attacks import ATTACKS
from gauntlet.evaluation import referee
from gauntlet.evaluation.outcome import Outcome
from gauntlet.predicted_labels import labels
from gauntlet.threat import Threat
from gauntlet.unanswered_label import NO_ANSWER, UNANSWERED
from service.compute.attack import AttackJob, AttackOutcome, Transferred, run
from service.compute.labels import given_labels
from service.compute.models import ComputeModels
from service.errors import Code, ServiceError
from service.schemas.image_codec import decode, encode
from service.schemas.main_calls import AttackRequest, AttackResponse, AttackResult, AttackSummary, Transfer
from service.settings import Settings


def attack(models: ComputeModels, request: AttackRequest, check_cancelled: Callable[[], None]) -> AttackResponse:
    """Check, price, run, measure. ``check_cancelled`` raises to end the run. Raises ServiceError or InvalidInput.

    No model is opened for a request that is refused.
    """
    fields = {name: f"transfer_to.{i}" for i, name in enumerate(request.transfer_to)}
    manifest = models.manifest(request.model, "model")
    others = {field: models.manifest(name, field) for name, field in fields.items()}
    checked = _checked(models.settings, request, manifest, others)
    with ExitStack() as leases:
        model = leases.enter_context(models.classifier(request.model))
        opened = {name: leases.enter_context(models.classifier(name, field)) for name, field in fields.items()}
        y = labels(model.predict(checked.x)) if checked.y is None else checked.y
        _check_target(y, checked.target)
        job = AttackJob(
            model,
            request.attack,
            request.params,
            checked.threat,
            request.seed,
            checked.x,
            y,
            checked.target,
            opened,
            request.format == "png",
        )
        return _response(request, job, run(job, check_cancelled), checked.minimum_norm)


def _response(request: AttackRequest, job: AttackJob, outcome: AttackOutcome, minimum_norm: bool) -> AttackResponse:
    return AttackResponse(
        model=job.model.name,
        model_sha256=job.model.manifest.model_sha256,
        gradients=job.model.manifest.gradients,
        attack=request.attack,
        norm=request.norm,
        eps=request.eps,
        results=_results(request, job, outcome, minimum_norm),
        summary=_summary(request, outcome.measured),
    )


@dataclass(frozen=True)
class _Checked:
    """What is known of a request that can be run, before any model is opened."""

    threat: Threat
    minimum_norm: bool  # a failure is told without an image
    x: Tensor  # (n, C, H, W)
    y: Tensor | None  # (n,), where labels are given
    target: Tensor | None  # (n,)


def _checked(
    settings: Settings, request: AttackRequest, manifest: ClassifierManifest, others: Mapping[str, ClassifierManifest]
) -> _Checked:
    """Raises ServiceError or InvalidInput."""
    for field, other in others.items():
        if (other.input_shape, other.classes) != (manifest.input_shape, manifest.classes):
            message = f"{other.name} does not take the images or know the classes of {manifest.name}"
            raise ServiceError(Code.INVALID, message, field=field)
    if request.attack not in ATTACKS:
        known = sorted(ATTACKS)
        message = f"no attack is called {request.attack!r}; there are {', '.join(known)}"
        raise ServiceError(Code.UNKNOWN_ATTACK, message, field="attack", known=known)
    threat = Threat(request.norm, request.eps)
    referee.admit(Unopened(manifest), request.attack)
    entry, params = referee.check(request.attack, threat, request.params, request.target_labels is not None)
    price(request, entry.gradient_steps(params), settings.attack_budget)
    shape, limit = manifest.input_shape, settings.max_images
    x = torch.from_numpy(decode(request.images, shape, resize=request.resize, limit=limit))
    classes = len(manifest.classes)
    y = given_labels(request.labels, len(x), classes, "labels")
    target = given_labels(request.target_labels, len(x), classes, "target_labels")
    return _Checked(threat, entry.minimum_norm, x, y, target)


def _check_target(y: Tensor, target: Tensor | None) -> None:
    if target is not None and bool((target == y).any()):
        row = int((target == y).nonzero()[0])
        message = f"target_labels.{row}: the target is the image's own label"
        raise ServiceError(Code.INVALID, message, field=f"target_labels.{row}")


def price(request: AttackRequest, gradient_steps: int, budget: int) -> None:
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


def _results(request: AttackRequest, job: AttackJob, outcome: AttackOutcome, minimum_norm: bool) -> list[AttackResult]:
    transfer = {name: _transfer(found) for name, found in outcome.transfer.items()}
    measured, form = outcome.measured, request.format
    results = []
    for i in range(len(job.x)):
        success = bool(measured.success[i])
        shown = success or not minimum_norm  # what is not returned is not described
        minimal = float(measured.minimal["l2"][i])
        image = measured.images[i]
        results.append(
            AttackResult(
                label=_class(int(job.y[i])),
                clean_label=_class(int(measured.clean_label[i])),
                adversarial_label=_class(int(measured.adversarial_label[i])) if shown else None,
                success=success,
                l2=float(measured.l2[i]) if shown else None,
                linf=float(measured.linf[i]) if shown else None,
                minimal_l2=minimal if math.isfinite(minimal) else None,
                attack=measured.by[i] if success else None,
                queries=int(measured.queries[i]),
                image=encode(image.numpy(), form) if shown else None,
                noise=encode(image_conversion.amplified(image - job.x[i]), form) if shown else None,
                transfer={name: rows[i] for name, rows in transfer.items()} if shown else {},
                error=NO_ANSWER if measured.clean_label[i] == UNANSWERED else None,
            )
        )
    return results


def _transfer(found: Transferred) -> list[Transfer]:
    rows = zip(found.label.tolist(), found.fooled.tolist(), strict=True)
    return [Transfer(label=_class(label), fooled=fooled) for label, fooled in rows]


def _class(label: int) -> int | None:
    return None if label == UNANSWERED else label


def _summary(request: AttackRequest, outcome: Outcome) -> AttackSummary:
    labelled = request.labels is not None
    attacked = int(outcome.correct.sum())
    median = float(np.median(outcome.size("l2")[outcome.correct].numpy())) if attacked else math.inf
    return AttackSummary(
        n=len(outcome.success),
        clean_accuracy=float(outcome.correct.double().mean()) if labelled else None,
        robust_accuracy=float(outcome.robust.double().mean()) if labelled and request.eps is not None else None,
        success_rate=float(outcome.success.sum()) / attacked if attacked else None,
        median_l2=median if math.isfinite(median) else None,
        seconds=outcome.seconds,
    )
