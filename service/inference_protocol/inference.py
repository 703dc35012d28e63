"""Inference: a body in, a body out. It runs in a thread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.runtime.served import ServedGenerator
from service import compression
from service.errors import Code, ServiceError
from service.inference_protocol import tensors
from service.inference_protocol.message import Input, read_infer, write
from service.inference_protocol.metadata import AnyManifest, check_version, input_of, outputs
from service.predictions import classification, generation
from service.predictions.classification import PredictionModel

Outputs = Mapping[str, NDArray[Any]]

ROUTE = "/v2/models/{name}/infer"
"""The label of its images, whether a version was asked for or not."""


@dataclass(frozen=True)
class InferCall:
    """What came in over HTTP."""

    version: str | None
    body: bytes
    length: str | None  # header: bytes of the JSON
    accepted: str  # header: encodings of the answer
    max_images: int


@dataclass(frozen=True)
class InferAnswer:
    """What goes out."""

    body: bytes
    length: int | None
    encoding: str | None


def infer(model: PredictionModel | ServedGenerator, call: InferCall) -> InferAnswer:
    """Raises ServiceError, InvalidInput or ModelFailed."""
    check_version(model.manifest, call.version)
    given, wanted = read_infer(call.body, call.length, expected_input(model.manifest, call.max_images))
    known = [tensor.name for tensor in outputs(model.manifest)]
    for name in wanted.names:
        if name not in known:
            message = f"outputs: {model.name} has no {name[:100]!r}, there are {', '.join(known)}"
            raise ServiceError(Code.INVALID, message, field="outputs")
    made = generate(model, given) if isinstance(model, ServedGenerator) else classify(model, given)
    head = {"model_name": model.name, "model_version": model.manifest.model_sha256}
    answer, length = write(head, {name: made[name] for name in wanted.names or known}, wanted)
    chosen = compression.choose(call.accepted)
    return InferAnswer(answer if chosen is None else compression.shrink(answer, chosen), length, chosen)


def expected_input(manifest: AnyManifest, limit: int) -> Input:
    tensor = input_of(manifest)
    return Input(tensor.name, tuple(tensor.shape[1:]), limit)


def classify(model: PredictionModel, given: NDArray[Any]) -> Outputs:
    """Images (n, C, H, W) to what a classifier says of them; counted as those of /classify are.

    NaN, and the label UNANSWERED, for an image that the model answers with NaN or infinite numbers.
    """
    found = classification.classify(model, tensors.to_pixels(given, "inputs.0"))
    classification.count(model, ROUTE, found)
    return {
        "logits": found.logits,
        "probabilities": found.probabilities,
        "label": found.labels,
        "certified_radius": np.zeros(len(found)) if found.radii is None else found.radii,
    }


def generate(model: ServedGenerator, given: NDArray[Any]) -> Outputs:
    """Latents (n, D) to images."""
    return {"images": generation.generate(model, tensors.to_latents(given, "inputs.0"), ROUTE, "inputs.0")}
