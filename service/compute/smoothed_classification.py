"""POST /classify with ``smoothing``: certificates of the smoothed classifier, thousands of passes for each image."""

import secrets
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

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


def classify_smoothed(
    models: ComputeModels, request: ClassifyRequest, asked: SmoothingIn, check_cancelled: Callable[[], None]
) -> ClassifyResponse:
    """The network's predictions, each with the certificate of the smoothed classifier.

    ``check_cancelled`` raises to end the run. Raises ServiceError or InvalidInput. No model is opened for a request
    that is refused.
    """
    manifest, settings = models.manifest(request.model, "model"), models.settings
    smoothing = asked.of(manifest.sigma, manifest.name)
    price(len(request.images), smoothing, settings.attack_budget)
    x = decode(request.images, manifest.input_shape, resize=request.resize, limit=settings.max_images)
    seed = secrets.randbelow(2**53) if asked.seed is None else asked.seed
    with models.classifier(request.model) as model:
        return _classify(model, x, smoothing, seed, check_cancelled)


def _classify(
    model: Classifier, x: NDArray[np.float32], smoothing: Smoothing, seed: int, check_cancelled: Callable[[], None]
) -> ClassifyResponse:
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


def price(images: int, smoothing: Smoothing, budget: int) -> None:
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
