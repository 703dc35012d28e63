"""Images between JSON and arrays."""

import base64
import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gauntlet.artifacts import image_conversion, picture_decoder
from gauntlet.artifacts.picture_decoder import OtherShape, Shape
from gauntlet.errors import InvalidInput
from service.errors import Code, ServiceError

MAX_PIXELS = 64_000_000
"""Of all images of a request together, before they are resized: seconds of decoding."""

LARGE = 1_000_000
_one_large = threading.Lock()
"""Pictures of more pixels than that are decoded one at a time, whoever sent them: each pixel takes twelve bytes."""


def decode(values: Sequence[Any], shape: Shape, *, resize: bool, limit: int) -> NDArray[np.float32]:
    """Request images to (n, C, H, W) float32 in [0, 1]. The first bad one is an error with its field."""
    if len(values) > limit:
        raise ServiceError(Code.INVALID, f"at most {limit} images a request, not {len(values)}", field="images")
    if resize:  # otherwise an image of another size is refused from its header
        _bounded(values)
    decoded = [_decode(value, shape, resize, f"images.{i}") for i, value in enumerate(values)]
    return image_conversion.batch(decoded)


def _bounded(values: Sequence[Any]) -> None:
    """Refuse what would be too many pixels, before any is decoded."""
    total = 0
    for i, value in enumerate(values):
        if isinstance(value, str):
            with _named(f"images.{i}"):
                total += picture_decoder.pixel_count(_bytes(value))
        if total > MAX_PIXELS:
            message = f"images.{i}: at most {MAX_PIXELS} pixels are decoded for one request"
            raise ServiceError(Code.INVALID, message, field=f"images.{i}")


def _decode(value: Any, shape: Shape, resize: bool, field: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    with _named(field):
        if isinstance(value, str):
            data = _bytes(value)
            with _one_large if resize and picture_decoder.pixel_count(data) > LARGE else contextlib.nullcontext():
                return picture_decoder.decode(data, shape, convert=resize)
        return image_conversion.from_nested(value, shape)


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
    except OtherShape as error:
        raise InvalidInput(f"{field}: {error}; send resize=true to convert it", field) from error
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error}", field) from error


def encode(image: NDArray[np.float32], form: str) -> Any:
    """An image (C, H, W) in the form asked for; an array keeps every bit of the float32 values."""
    return png(image) if form == "png" else image.tolist()


def png(image: ArrayLike) -> str:
    """Base64 of the PNG of an image (C, H, W)."""
    return base64.b64encode(image_conversion.to_png(image)).decode("ascii")
