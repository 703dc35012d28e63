"""Images between JSON and tensors."""

import base64
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gauntlet import images
from gauntlet.errors import InvalidInput
from gauntlet.images import Shape
from service.errors import Code, ServiceError

MAX_PIXELS = 64_000_000
"""Of all images of a request together, before they are resized: half a second of decoding."""


def decode(values: Sequence[Any], shape: Shape, *, resize: bool, limit: int) -> Tensor:
    """Request images to (n, C, H, W) float32 in [0, 1]. The first bad one is an error with its field."""
    if len(values) > limit:
        raise ServiceError(Code.INVALID, f"at most {limit} images a request, not {len(values)}", field="images")
    if resize:  # otherwise an image of another size is refused from its header
        _bounded(values)
    return images.batch([_decode(value, shape, resize, f"images.{i}") for i, value in enumerate(values)])


def _bounded(values: Sequence[Any]) -> None:
    """Refuse what would be too many pixels, before any is decoded."""
    total = 0
    for i, value in enumerate(values):
        if isinstance(value, str):
            with _named(f"images.{i}"):
                total += images.pixels(_bytes(value))
        if total > MAX_PIXELS:
            message = f"images.{i}: at most {MAX_PIXELS} pixels are decoded for one request"
            raise ServiceError(Code.INVALID, message, field=f"images.{i}")


def _decode(value: Any, shape: Shape, resize: bool, field: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    with _named(field):
        if isinstance(value, str):
            return images.from_bytes(_bytes(value), shape, resize)
        return images.from_nested(value, shape)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # a character beyond ASCII is one too
        raise InvalidInput(f"not valid base64 ({error})") from error


@contextlib.contextmanager
def _named(field: str) -> Iterator[None]:
    """An error gets the name of the image that it is about."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error}", field) from error


def encode(image: Tensor, form: str) -> Any:
    """An image (C, H, W) in the form asked for; an array keeps every bit of the float32 values."""
    return png(image) if form == "png" else image.tolist()


def png(image: Tensor) -> str:
    """Base64 of the PNG of an image (C, H, W)."""
    return base64.b64encode(images.to_png(image)).decode("ascii")
