"""Bodies of the protocol: JSON, and behind it the tensors that travel as bytes."""

import codecs
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from service.errors import Code, ServiceError, invalid
from service.inference_protocol.schemas import InferRequest, InputTensor
from service.inference_protocol.tensors import DATATYPES, NAMES, from_bytes, from_json
from service.schemas.json_limits import JsonLimits

B = TypeVar("B", bound=BaseModel)

LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON. Without it all of them are."""


@dataclass(frozen=True)
class Input:
    """What a model wants: so many values of an image or latent, in any number of them up to ``limit``."""

    name: str
    shape: tuple[int, ...]
    limit: int


@dataclass(frozen=True)
class Wanted:
    """What a request wants back."""

    id: str
    names: tuple[str, ...]  # empty: everything
    binary: frozenset[str]  # of these names
    otherwise: bool  # what is not named goes as bytes

    def as_bytes(self, name: str) -> bool:
        return name in self.binary if self.names else self.otherwise


def read(model: type[B], body: bytes | memoryview) -> B:
    """A body of JSON. Raises ServiceError."""
    text = bytes(body).removeprefix(codecs.BOM_UTF8)
    JsonLimits().take(text)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if not problems[0]["loc"]:
            raise ServiceError(Code.MALFORMED, f"the body is not a JSON object: {problems[0]['msg']}") from error
        raise invalid(problems) from error


def read_infer(body: bytes, length: str | None, expected: Input) -> tuple[NDArray[Any], Wanted]:
    """The batch (n, *expected.shape) of an inference request as it was sent, and what is to come back.

    A JSON part of no bytes is Triton's raw binary request: all of the body is one FP32 tensor.
    """
    view = memoryview(body)
    size = len(view) if length is None else _length(length, len(view))
    if length is not None and size == 0:
        return _raw(view, expected), Wanted("", (), frozenset(), otherwise=True)
    asked = read(InferRequest, view[:size])
    default = asked.parameters.binary_data_output
    names = tuple(output.name for output in asked.outputs)
    binary = frozenset(
        output.name
        for output in asked.outputs
        if (default if output.parameters.binary_data is None else output.parameters.binary_data)
    )
    return _tensor(asked.inputs[0], view[size:], expected), Wanted(asked.id, names, binary, default)


def _length(text: str, size: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= size):
        message = f"{LENGTH} must be the number of bytes that are JSON, of the {size} that the body has"
        raise ServiceError(Code.MALFORMED, message, field=LENGTH)
    return int(text)


def _raw(view: memoryview, expected: Input) -> NDArray[Any]:
    each = int(np.prod(expected.shape)) * DATATYPES["FP32"].itemsize
    n = len(view) // each
    _check_shape((n, *expected.shape), expected, "body")
    return from_bytes(view, "FP32", (n, *expected.shape), "body")


def _tensor(given: InputTensor, rest: memoryview, expected: Input) -> NDArray[Any]:
    if given.name != expected.name:
        message = f"inputs.0.name: the model's input is {expected.name!r}, not {given.name[:100]!r}"
        raise ServiceError(Code.INVALID, message, field="inputs.0.name")
    shape, size = tuple(given.shape), given.parameters.binary_data_size
    _check_shape(shape, expected, "inputs.0.shape")
    if (size is None) == (given.data is None):
        message = "inputs.0: send either data, or binary_data_size in the parameters and the bytes behind the JSON"
        raise ServiceError(Code.INVALID, message, field="inputs.0.data")
    if len(rest) != (size or 0):
        message = f"the bytes behind the JSON are {len(rest)}, binary_data_size says {size or 0}; is {LENGTH} right?"
        raise ServiceError(Code.INVALID, message, field="inputs.0.parameters.binary_data_size")
    if given.data is None:
        return from_bytes(rest, given.datatype, shape, "inputs.0")
    return from_json(given.data, given.datatype, shape, "inputs.0.data")


def _check_shape(shape: tuple[int, ...], expected: Input, field: str) -> None:
    if shape[1:] != expected.shape or shape[0] < 1:
        message = f"{field}: the model takes {[-1, *expected.shape]}, with -1 for one or more; this is {list(shape)}"
        raise ServiceError(Code.INVALID, message, field=field)
    if shape[0] > expected.limit:
        message = f"{field}: at most {expected.limit} images a request, not {shape[0]}"
        raise ServiceError(Code.INVALID, message, field=field)


def write(head: dict[str, Any], outputs: Mapping[str, NDArray[Any]], wanted: Wanted) -> tuple[bytes, int | None]:
    """An answer's body; the length of its JSON where bytes follow. JSON has no NaN: null."""
    described, tail = [], []
    for name, array in outputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": NAMES[array.dtype], "shape": array.shape}
        if wanted.as_bytes(name):
            tail.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            values = array.ravel().tolist()
            whole = np.isfinite(array).all()
            tensor["data"] = values if whole else [value if math.isfinite(value) else None for value in values]
        described.append(tensor)
    identified = {"id": wanted.id} if wanted.id else {}
    start = json.dumps({**head, **identified, "outputs": described}, allow_nan=False, separators=(",", ":")).encode()
    return (b"".join([start, *tail]), len(start)) if tail else (start, None)
