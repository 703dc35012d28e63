"""Images between JSON and tensors."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gauntlet import images
from gauntlet.errors import InvalidInput
from gauntlet.images import Shape
from service.errors import Code, ServiceError


def decode(values: Sequence[Any], shape: Shape, *, resize: bool, limit: int) -> Tensor:
    """Request images to (n, C, H, W) float32 in [0, 1]. The first bad one is an error with its field."""
    if len(values) > limit:
        raise ServiceError(Code.INVALID, f"at most {limit} images a request, not {len(values)}", field="images")
    return torch.stack([_decode(value, shape, resize, f"images.{i}") for i, value in enumerate(values)])


def _decode(value: Any, shape: Shape, resize: bool, field: str) -> Tensor:
    try:
        if isinstance(value, str):
            return images.from_bytes(base64.b64decode(value, validate=True), shape, resize)
        return images.from_nested(value, shape)
    except binascii.Error as error:
        raise InvalidInput(f"{field}: not valid base64 ({error})", field) from error
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error}", field) from error


def encode(image: Tensor, form: str) -> Any:
    """An image (C, H, W) in the form asked for; an array keeps every bit of the float32 values."""
    return png(image) if form == "png" else image.tolist()


def png(image: Tensor) -> str:
    """Base64 of the PNG of an image (C, H, W)."""
    return base64.b64encode(images.to_png(image)).decode("ascii")
