"""The loaded models and what can be asked of them at once: the work behind /classify and /generate. No HTTP in it."""

import functools
import itertools
import math
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet import images, pages
from gauntlet.evalset import load_all as load_evalsets
from gauntlet.manifest import ClassifierManifest, GeneratorManifest
from gauntlet.randomness import Keyed
from gauntlet.runtime import Classifier, Generator, open_all, use_threads
from gauntlet.sandbox.nursery import Limits, Nursery
from service.errors import Code, ServiceError
from service.http.codec import decode, encode, png
from service.http.schemas import (
    CertificateOut,
    ClassifyRequest,
    ClassifyResponse,
    GenerateRequest,
    GenerateResponse,
    Prediction,
)
from service.models.evalsets import EvalSets
from service.models.guests import Guests
from service.models.shelf import Shelf
from service.settings import Settings
from service.watch import metrics

AnyManifest = ClassifierManifest | GeneratorManifest
M = TypeVar("M", Classifier, Generator)
T = TypeVar("T")
DEFAULT_N = 16


class Engine:
    """Every model and evaluation set under GAUNTLET_MODELS, and those that users brought.

    ArtefactError or DeviceError if one of the former cannot be served.
    """

    def __init__(self, settings: Settings) -> None:
        use_threads(settings.threads)
        pages.keep()
        self.settings = settings
        self.models: dict[str, Classifier | Generator] = open_all(settings.artifacts, settings.device)
        shelf = Shelf(settings.database_url)
        nursery = Nursery(Limits(memory=settings.upload_memory, threads=settings.threads))
        self.guests = Guests(settings.max_uploads, shelf, nursery)
        self._decoding = threading.Lock()  # threads that decode small pictures only wait for each other's interpreter
        self.unloaded: dict[str, AnyManifest] = {}  # taken out of service by an admin, in this process
        self.evalsets = EvalSets(load_evalsets(settings.evalsets), settings.max_uploads, shelf, nursery)

    @property
    def reserved(self) -> frozenset[str]:
        """Names that nobody can give to a model of theirs."""
        return frozenset([*self.models, *self.unloaded, "reload"])  # /models/reload is a call

    def manifests(self) -> list[AnyManifest]:
        """Of all models that are in service."""
        brought = [found for name, found in self.guests.manifests().items() if found != self.unloaded.get(name)]
        return [*(model.manifest for model in list(self.models.values())), *brought]

    def manifest(self, name: str, field: str) -> AnyManifest:
        """By name, without opening anything; ServiceError ``unknown_model`` lists the names there are."""
        own = self.models.get(name)
        found = self.guests.manifest(name) if own is None else own.manifest
        if found is None or (own is None and found == self.unloaded.get(name)):
            raise self.unknown(name, field)
        return found

    def model(self, name: str, field: str = "model") -> Classifier | Generator:
        """By name; ServiceError ``unknown_model`` lists the names there are."""
        if name in self.unloaded:
            self.manifest(name, field)  # raises, unless the name means another model now
        found = self.models.get(name) or self.guests.get(name)
        if found is None:
            raise self.unknown(name, field)
        return found

    def unknown(self, name: str, field: str) -> ServiceError:
        known = sorted(manifest.name for manifest in self.manifests())
        why = "has been unloaded" if name in self.unloaded else "is none of the models"
        message = f"{name[:100]!r} {why}; there are {', '.join(known)}"
        return ServiceError(Code.UNKNOWN_MODEL, message, field=field, known=known)

    def _of_kind(self, name: str, kind: type[M], field: str) -> M:
        model = self.model(name, field)
        if not isinstance(model, kind):
            message = f"{name} is a {model.manifest.kind}, this call needs a {kind.__name__.lower()}"
            raise ServiceError(Code.WRONG_KIND, message, field=field)
        return model

    def classifier(self, name: str, field: str = "model") -> Classifier:
        return self._of_kind(name, Classifier, field)

    def classify(self, request: ClassifyRequest) -> ClassifyResponse:
        """Predictions with their certificates."""
        model = self.classifier(request.model)
        with nullcontext() if request.resize else self._decoding:
            x = self._pixels(model, request)
        predictions = predict(model, x)
        metrics.count_predictions(model.name, "/classify", predictions)
        return _answer(model, predictions)

    def classify_together(self, name: str, requests: Sequence[ClassifyRequest]) -> list[ClassifyResponse | Exception]:
        """Requests for the model of this name in one run of it, each answered as if it had come alone.

        A bad one does not get into the run. If that fails all the same, several are tried one by one.
        """
        try:
            model = self.classifier(name)
        except Exception as error:  # everybody's
            return [error] * len(requests)
        pixels = functools.partial(self._pixels, model)
        given = [_attempt(pixels, request) for request in requests]
        good = [x for x in given if isinstance(x, Tensor)]
        try:
            predictions = predict(model, torch.cat(good)) if good else []
        except Exception as error:
            if len(good) == 1:
                return [x if isinstance(x, Exception) else error for x in given]
            return [_attempt(self.classify, request) for request in requests]  # whoever's fault it is
        metrics.count_predictions(model.name, "/classify", predictions)
        rest = iter(predictions)
        return [x if isinstance(x, Exception) else _answer(model, list(itertools.islice(rest, len(x)))) for x in given]

    def _pixels(self, model: Classifier, request: ClassifyRequest) -> Tensor:
        limit = self.settings.max_images
        return decode(request.images, model.manifest.input_shape, resize=request.resize, limit=limit)

    def generate(self, request: GenerateRequest) -> GenerateResponse:
        """Image i depends on the seed and i alone, whatever n is."""
        model = self._of_kind(request.model, Generator, "model")
        size, limit = model.manifest.latent_dim, self.settings.max_images
        n = request.n or (DEFAULT_N if request.latents is None else len(request.latents))
        if n > limit:
            field = "n" if request.latents is None else "latents"
            raise ServiceError(Code.INVALID, f"at most {limit} images a request, not {n}", field=field)
        seed = request.seed
        if request.latents is None:
            seed = secrets.randbelow(2**32) if seed is None else seed
            latents = Keyed.span(seed, 0, n).normal(0, (size,))  # (n, D)
        else:
            latents = _latents(request.latents, size)
        made = model.generate(latents)  # (n, C, H, W)
        metrics.IMAGES.labels(model.name, "/generate").inc(n)
        return GenerateResponse(
            model=model.name,
            model_sha256=model.manifest.model_sha256,
            seed=seed,
            images=[encode(image, request.format) for image in made],
            latents=latents.tolist(),
            grid=png(images.grid(made, math.ceil(math.sqrt(n)))),
        )


def _latents(values: list[list[float]], size: int) -> Tensor:
    for i, latent in enumerate(values):
        if len(latent) != size:
            message = f"latents.{i}: the model's latents have {size} numbers, this one has {len(latent)}"
            raise ServiceError(Code.INVALID, message, field=f"latents.{i}")
    latents = torch.tensor(values, dtype=torch.float32)
    if not bool(torch.isfinite(latents).all()):
        raise ServiceError(Code.INVALID, "latents: a number is beyond float32", field="latents")
    return latents


def _attempt(work: Callable[[ClassifyRequest], T], request: ClassifyRequest) -> T | Exception:
    try:
        return work(request)
    except Exception as error:  # for whoever asked for it
        return error


def _answer(model: Classifier, predictions: list[Prediction]) -> ClassifyResponse:
    return ClassifyResponse(model=model.name, model_sha256=model.manifest.model_sha256, predictions=predictions)


def predict(model: Classifier, x: Tensor) -> list[Prediction]:
    """Images (n, C, H, W) to n predictions."""
    logits = model.predict(x)  # (n, K)
    probabilities, margins = softmax(logits)
    proved = model.certificate.radius(logits)
    radii = itertools.repeat(None, len(x)) if proved is None else proved.tolist()
    return [_prediction(model, *values) for values in zip(probabilities.tolist(), margins.tolist(), radii, strict=True)]


def softmax(logits: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits (n, K) to probabilities (n, K) and the differences (n,) of the two largest logits.

    In numpy: torch would wake its threads for so little, and they would wait for each other under load.
    """
    z = logits.numpy().astype(np.float64)
    second, first = np.partition(z, -2, axis=1)[:, -2:].T
    powers = np.exp(z - first[:, None])
    return powers / powers.sum(axis=1, keepdims=True), first - second


def _prediction(model: Classifier, probabilities: list[float], margin: float, radius: float | None) -> Prediction:
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
        certificate=certificate,
    )
