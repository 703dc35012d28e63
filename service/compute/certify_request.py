"""POST /certify: the request checked and priced; attacks, then bounds; a verdict for each image."""

from collections.abc import Callable

import torch

from gauntlet.runtime.classifier import Classifier
from gauntlet.unanswered_label import UNANSWERED
from gauntlet.verification import images
from gauntlet.verification.images import METHODS, ImageVerdict
from service.compute.labels import given_labels
from service.compute.models import ComputeModels
from service.errors import Code, ServiceError
from service.observability import metrics
from service.schemas.certify import CertifyRequest, CertifyResponse, Verdict
from service.schemas.image_codec import decode, encode
from service.settings import Settings

SHARE = 0.9  # of the time that an attack may take: the rest is for waiting, and for what a bound overruns


def certify(models: ComputeModels, request: CertifyRequest, check_cancelled: Callable[[], None]) -> CertifyResponse:
    """Check, price, attack, bound. ``check_cancelled`` raises to end the run. Raises ServiceError or InvalidInput."""
    settings = models.settings
    price(request, settings)
    with models.classifier(request.model) as model:
        x = torch.from_numpy(
            decode(request.images, model.manifest.input_shape, resize=request.resize, limit=settings.max_images)
        )
        y = given_labels(request.labels, len(x), len(model.manifest.classes), "labels")
        verdicts = images.certify(
            model,
            x,
            y,
            request.norm,
            None if request.radius else request.eps,
            methods=METHODS if request.method == "auto" else (request.method,),
            seconds=request.budget_seconds,
            seed=request.seed,
            eight_bit=request.format == "png",
            check_cancelled=check_cancelled,
        )
        metrics.IMAGES.labels(model.name, "/certify").inc(len(x))
        return CertifyResponse(
            model=model.name,
            model_sha256=model.manifest.model_sha256,
            norm=request.norm,
            results=[_result(model, verdict, request.format) for verdict in verdicts],
        )


def price(request: CertifyRequest, settings: Settings) -> None:
    """The seconds asked for; more than most of what an attack may take are ``too_expensive``."""
    cost, limit = request.budget_seconds, SHARE * settings.attack_deadline
    if cost > limit:
        message = (
            f"budget_seconds is {cost:g} and the limit is {limit:g}: ask for fewer, or run `gauntlet certify`, which "
            "has no limit"
        )
        raise ServiceError(Code.TOO_EXPENSIVE, message, field="budget_seconds", cost=cost, limit=limit)


def _result(model: Classifier, verdict: ImageVerdict, form: str) -> Verdict:
    found = verdict.counterexample
    return Verdict(
        status=verdict.status,
        label=None if verdict.label == UNANSWERED else verdict.label,
        class_name=None if verdict.label == UNANSWERED else model.manifest.classes[verdict.label],
        radius=verdict.eps,
        method=verdict.method,
        bound=verdict.bound,
        distance=verdict.distance,
        adversarial_label=None if found is None else int(model.predict(found[None]).argmax()),
        counterexample=None if found is None else encode(found.numpy(), form),
        seconds=verdict.seconds,
        reason=verdict.reason,
    )
