"""Requests to POST /classify, answered one by one or several in one run of their model."""

import functools
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gauntlet.unanswered_label import NO_ANSWER
from service.predictions.classification import Classified, PredictionModel, classify, count
from service.schemas.image_codec import decode
from service.schemas.main_calls import CertificateOut, ClassifyRequest, ClassifyResponse, Prediction

T = TypeVar("T")
Floats = NDArray[np.float32]

ROUTE = "/classify"


class ClassifyRequests:
    """``use`` gives the open model of a name for a while, or raises what is wrong with it; ``max_images`` a request."""

    def __init__(self, use: Callable[[str], AbstractContextManager[PredictionModel]], max_images: int) -> None:
        self._use, self._max_images = use, max_images
        self._decoding = threading.Lock()  # threads that decode small pictures only wait for each other's interpreter

    def answer(self, request: ClassifyRequest) -> ClassifyResponse:
        """Raises ServiceError, InvalidInput or ModelFailed."""
        with self._use(request.model) as model:
            with nullcontext() if request.resize else self._decoding:
                x = self._pixels(model, request)
            found = classify(model, x)
            count(model, ROUTE, found)
            return response(model, encode(model, found))

    def answer_together(self, name: str, requests: Sequence[ClassifyRequest]) -> list[ClassifyResponse | Exception]:
        """Requests for the model of this name in one run of it, each answered as if it had come alone.

        A bad one does not get into the run. If that fails all the same, several are tried one by one.
        """
        try:
            with self._use(name) as model:
                return self._together(model, requests)
        except Exception as error:  # everybody's
            return [error] * len(requests)

    def _together(
        self, model: PredictionModel, requests: Sequence[ClassifyRequest]
    ) -> list[ClassifyResponse | Exception]:
        pixels = functools.partial(self._pixels, model)
        given = [_attempt(pixels, request) for request in requests]
        good = [x for x in given if isinstance(x, np.ndarray)]
        try:
            found = classify(model, np.concatenate(good)) if good else None
        except Exception as error:
            if len(good) == 1:
                return [x if isinstance(x, Exception) else error for x in given]
            return [_attempt(self.answer, request) for request in requests]  # whoever's fault it is
        if found is not None:
            count(model, ROUTE, found)
        rest = iter([] if found is None else encode(model, found))
        return [x if isinstance(x, Exception) else response(model, list(itertools.islice(rest, len(x)))) for x in given]

    def _pixels(self, model: PredictionModel, request: ClassifyRequest) -> Floats:
        return decode(request.images, model.manifest.input_shape, resize=request.resize, limit=self._max_images)


def _attempt(work: Callable[[ClassifyRequest], T], request: ClassifyRequest) -> T | Exception:
    try:
        return work(request)
    except Exception as error:  # for whoever asked for it
        return error


def response(model: PredictionModel, predictions: list[Prediction]) -> ClassifyResponse:
    return ClassifyResponse(model=model.name, model_sha256=model.manifest.model_sha256, predictions=predictions)


def encode(model: PredictionModel, found: Classified) -> list[Prediction]:
    """One entry for each image."""
    none: list[float | None] = [None] * len(found)
    radii, linf = (none if part is None else part.tolist() for part in (found.radii, found.linf_radii))
    rows = zip(found.probabilities.tolist(), found.margins.tolist(), radii, linf, strict=True)
    return [_prediction(model, *row) for row in rows]


def _prediction(
    model: PredictionModel, probabilities: list[float], margin: float, radius: float | None, linf_radius: float | None
) -> Prediction:
    if math.isnan(margin):
        return Prediction(
            label=None,
            class_name=None,
            probability=None,
            probabilities=None,
            margin=None,
            certified_radius=None,
            certified_linf_radius=None,
            certificate=None,
            error=NO_ANSWER,
        )
    label = max(range(len(probabilities)), key=probabilities.__getitem__)
    certificate = None
    if radius is not None and model.certificate.lipschitz is not None:
        certificate = CertificateOut(
            norm="l2",
            radius=radius,
            method=model.certificate.method,
            lipschitz=model.certificate.lipschitz,
            abstained=radius == 0,
        )
    return Prediction(
        label=label,
        class_name=model.manifest.classes[label],
        probability=probabilities[label],
        probabilities=probabilities,
        margin=margin,
        certified_radius=radius,
        certified_linf_radius=linf_radius,
        certificate=certificate,
    )
