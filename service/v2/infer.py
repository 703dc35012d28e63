"""Inference: a body in, a body out. It runs in a thread, and imports torch through the models it asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gauntlet.runtime import Classifier, Generator
from service.errors import Code, ServiceError
from service.http.routes import OIP
from service.models.engine import Engine, softmax
from service.v2 import encoding, tensors
from service.v2.message import Input, read_infer, write
from service.v2.metadata import check_version, entrance, outputs
from service.watch import metrics

Outputs = Mapping[str, NDArray[Any]]

ROUTE = f"{OIP}/infer"  # the label of its images, whether a version was asked for or not


@dataclass(frozen=True)
class Request:
    """What came in over HTTP."""

    name: str
    version: str | None
    body: bytes
    length: str | None  # header: bytes of the JSON
    encoding: str  # header: of the body
    accepted: str  # header: encodings of the answer


@dataclass(frozen=True)
class Response:
    """What goes out."""

    body: bytes
    length: int | None
    encoding: str | None


def infer(engine: Engine, request: Request) -> Response:
    """Raises ServiceError, InvalidInput or ModelFailed."""
    model = engine.model(request.name, "model")
    check_version(model.manifest, request.version)
    body = encoding.expand(request.body, request.encoding, engine.settings.max_body)
    given, wanted = read_infer(body, request.length, door(model, engine.settings.max_images))
    known = [tensor.name for tensor in outputs(model.manifest)]
    for name in wanted.names:
        if name not in known:
            message = f"outputs: {request.name} has no {name[:100]!r}, there are {', '.join(known)}"
            raise ServiceError(Code.INVALID, message, field="outputs")
    made = classify(model, given) if isinstance(model, Classifier) else generate(model, given)
    head = {"model_name": model.name, "model_version": model.manifest.model_sha256}
    answer, length = write(head, {name: made[name] for name in wanted.names or known}, wanted)
    chosen = encoding.choose(request.accepted)
    return Response(answer if chosen is None else encoding.shrink(answer, chosen), length, chosen)


def door(model: Classifier | Generator, limit: int) -> Input:
    tensor = entrance(model.manifest)
    return Input(tensor.name, tuple(tensor.shape[1:]), limit)


def classify(model: Classifier, given: NDArray[Any]) -> Outputs:
    """Images (n, C, H, W) to what a classifier says of them; counted as those of /classify are."""
    x = tensors.to_pixels(given, "inputs.0")
    logits = model.predict(torch.from_numpy(x))  # (n, K)
    radii = model.certificate.radius(logits)
    probabilities, margins = softmax(logits)
    nearness = -probabilities.max(axis=1) * np.expm1(-margins)  # difference of the two largest
    metrics.count(model.name, ROUTE, nearness, () if radii is None else radii.numpy())
    return {
        "logits": logits.numpy(),
        "probabilities": probabilities,
        "label": probabilities.argmax(axis=1),
        "certified_radius": np.zeros(len(x)) if radii is None else radii.numpy(),
    }


def generate(model: Generator, given: NDArray[Any]) -> Outputs:
    """Latents (n, D) to images."""
    made = model.generate(torch.from_numpy(tensors.to_latents(given, "inputs.0")))
    metrics.IMAGES.labels(model.name, ROUTE).inc(len(made))
    return {"images": made.numpy()}
