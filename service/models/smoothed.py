"""The work behind /classify with ``smoothing``: priced before it runs, stopped at its deadline. No HTTP in it."""

import secrets
from collections.abc import Callable

from gauntlet.draws import Smoothing
from gauntlet.smoothing import ABSTAINED, certify
from service.errors import Code, ServiceError
from service.http.codec import decode
from service.http.schemas import ClassifyRequest, ClassifyResponse, SmoothedCertificate, SmoothingIn
from service.models.engine import Engine, predict
from service.watch import metrics


def classify(
    engine: Engine, request: ClassifyRequest, asked: SmoothingIn, stop: Callable[[], None]
) -> ClassifyResponse:
    """The network's predictions, each with the certificate of the smoothed classifier.

    ``stop`` raises to end the run. Raises ServiceError or InvalidInput.
    """
    model = engine.classifier(request.model)
    smoothing = asked.of(model.manifest.sigma, model.name)
    price(len(request.images), smoothing, engine.settings.attack_budget)
    limit = engine.settings.max_images
    x = decode(request.images, model.manifest.input_shape, resize=request.resize, limit=limit)
    seed = secrets.randbelow(2**53) if asked.seed is None else asked.seed
    found = certify(model.predict, x, smoothing, seed=seed, stop=stop)
    certificates = [
        SmoothedCertificate(
            norm="l2",
            radius=radius,
            method="randomized smoothing",
            label=None if label == ABSTAINED else label,
            class_name=None if label == ABSTAINED else model.manifest.classes[label],
            abstained=label == ABSTAINED,
            seed=seed,
            **smoothing.model_dump(),
        )
        for label, radius in zip(found.label.tolist(), found.radius.tolist(), strict=True)
    ]
    metrics.IMAGES.labels(model.name, "/classify").inc(len(x))
    predictions = [
        prediction.model_copy(update={"certified_radius": None, "certificate": certificate})
        for prediction, certificate in zip(predict(model, x), certificates, strict=True)
    ]
    return ClassifyResponse(model=model.name, model_sha256=model.manifest.model_sha256, predictions=predictions)


def price(images: int, smoothing: Smoothing, budget: int) -> int:
    """Images x draws; more than the budget of an attack is ``too_expensive``."""
    cost = images * smoothing.per_image
    if cost > budget:
        message = (
            f"this costs {cost} passes through the network and the limit is {budget}: "
            "send fewer images or samples, or ask POST /robustness-report, which has no limit"
        )
        raise ServiceError(
            Code.TOO_EXPENSIVE, message, field="images", cost=cost, limit=budget, use="POST /robustness-report"
        )
    return cost
