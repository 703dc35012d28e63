"""POST /classify with ``smoothing``: certificates of the smoothed classifier, thousands of passes for each image."""

import secrets
from collections.abc import Callable

import torch

from gauntlet.certify.smoothing import ABSTAINED, certify
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.runtime.classifier import Classifier
from service.compute.models import ComputeModels
from service.compute.prediction_model import TorchPredictionModel
from service.errors import Code, ServiceError
from service.observability import metrics
from service.predictions.classification import classify
from service.predictions.classify_requests import encode, response
from service.schemas.image_codec import decode
from service.schemas.main_calls import ClassifyRequest, ClassifyResponse, SmoothedCertificate, SmoothingIn
from service.settings import Settings


def classify_smoothed(
    models: ComputeModels, request: ClassifyRequest, asked: SmoothingIn, check_cancelled: Callable[[], None]
) -> ClassifyResponse:
    """The network's predictions, each with the certificate of the smoothed classifier.

    ``check_cancelled`` raises to end the run. Raises ServiceError or InvalidInput.
    """
    with models.classifier(request.model) as model:
        return _classify(model, request, asked, models.settings, check_cancelled)


def _classify(
    model: Classifier,
    request: ClassifyRequest,
    asked: SmoothingIn,
    settings: Settings,
    check_cancelled: Callable[[], None],
) -> ClassifyResponse:
    smoothing = asked.of(model.manifest.sigma, model.name)
    price(len(request.images), smoothing, settings.attack_budget)
    limit = settings.max_images
    x = decode(request.images, model.manifest.input_shape, resize=request.resize, limit=limit)
    seed = secrets.randbelow(2**53) if asked.seed is None else asked.seed
    found = certify(model.predict, torch.from_numpy(x), smoothing, seed=seed, check_cancelled=check_cancelled)
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
    plain = TorchPredictionModel(model)
    predictions = [
        prediction.model_copy(update={"certified_radius": None, "certificate": certificate})
        for prediction, certificate in zip(encode(plain, classify(plain, x)), certificates, strict=True)
    ]
    return response(plain, predictions)


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
