"""Bodies of the protocol: JSON, and behind it the tensors that travel as bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from service.errors import Code, ServiceError, invalid
from service.http.values import Values
from service.v2.schemas import InferRequest, InputTensor
from service.v2.tensors import DATATYPES, NAMES, from_bytes, from_json

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
    text = bytes(body)
    Values().take(text)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if not problems[0]["loc"]:
            raise ServiceError(Code.MALFORMED, f"the body is not a JSON object: {problems[0]['msg']}") from error
        raise invalid(problems) from error


def read_infer(body: bytes, length: str | None, door: Input) -> tuple[NDArray[Any], Wanted]:
    """The batch (n, *door.shape) of an inference request as it was sent, and what is to come back.

    A JSON part of no bytes is Triton's raw binary request: all of the body is one FP32 tensor.
    """
    view = memoryview(body)
    size = len(view) if length is None else _length(length, len(view))
    if length is not None and size == 0:
        return _raw(view, door), Wanted("", (), frozenset(), otherwise=True)
    asked = read(InferRequest, view[:size])
    default = asked.parameters.binary_data_output
    names = tuple(output.name for output in asked.outputs)
    binary = frozenset(
        output.name
        for output in asked.outputs
        if (default if output.parameters.binary_data is None else output.parameters.binary_data)
    )
    return _tensor(asked.inputs[0], view[size:], door), Wanted(asked.id, names, binary, default)


def _length(said: str, size: int) -> int:
    if not (said.isascii() and said.isdecimal() and len(said) < 12 and int(said) <= size):
        message = f"{LENGTH} must be the number of bytes that are JSON, of the {size} that the body has"
        raise ServiceError(Code.MALFORMED, message, field=LENGTH)
    return int(said)


def _raw(view: memoryview, door: Input) -> NDArray[Any]:
    each = int(np.prod(door.shape)) * DATATYPES["FP32"].itemsize
    n = len(view) // each
    _check_shape((n, *door.shape), door, "body")
    return from_bytes(view, "FP32", (n, *door.shape), "body")


def _tensor(given: InputTensor, rest: memoryview, door: Input) -> NDArray[Any]:
    if given.name != door.name:
        message = f"inputs.0.name: the model's input is {door.name!r}, not {given.name[:100]!r}"
        raise ServiceError(Code.INVALID, message, field="inputs.0.name")
    shape, size = tuple(given.shape), given.parameters.binary_data_size
    _check_shape(shape, door, "inputs.0.shape")
    if (size is None) == (given.data is None):
        message = "inputs.0: send either data, or binary_data_size in the parameters and the bytes behind the JSON"
        raise ServiceError(Code.INVALID, message, field="inputs.0.data")
    if len(rest) != (size or 0):
        message = f"the bytes behind the JSON are {len(rest)}, binary_data_size says {size or 0}; is {LENGTH} right?"
        raise ServiceError(Code.INVALID, message, field="inputs.0.parameters.binary_data_size")
    if given.data is None:
        return from_bytes(rest, given.datatype, shape, "inputs.0")
    return from_json(given.data, given.datatype, shape, "inputs.0.data")


def _check_shape(shape: tuple[int, ...], door: Input, field: str) -> None:
    if shape[1:] != door.shape or shape[0] < 1:
        message = f"{field}: the model takes {[-1, *door.shape]}, with -1 for one or more; this is {list(shape)}"
        raise ServiceError(Code.INVALID, message, field=field)
    if shape[0] > door.limit:
        message = f"{field}: at most {door.limit} images a request, not {shape[0]}"
        raise ServiceError(Code.INVALID, message, field=field)


def write(head: dict[str, Any], outputs: Mapping[str, NDArray[Any]], wanted: Wanted) -> tuple[bytes, int | None]:
    """An answer's body; the length of its JSON where bytes follow."""
    described, tail = [], []
    for name, array in outputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": NAMES[array.dtype], "shape": array.shape}
        if wanted.as_bytes(name):
            tail.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = array.ravel().tolist()
        described.append(tensor)
    said = {"id": wanted.id} if wanted.id else {}
    start = json.dumps({**head, **said, "outputs": described}, allow_nan=False, separators=(",", ":")).encode()
    return (b"".join([start, *tail]), len(start)) if tail else (start, None)
