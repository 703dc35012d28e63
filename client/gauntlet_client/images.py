"""Conversion of images between the forms that users have and those of the service."""

import base64
from pathlib import Path
from typing import Any, Protocol


class Array(Protocol):
    """An array of numpy or torch."""

    def tolist(self) -> Any: ...


Image = Path | bytes | str | list[Any] | Array
"""A file; the bytes of a PNG, JPEG or WebP, or the same in base64; floats in [0, 1] shaped C, H, W (grey: H, W)."""


def encoded(image: Image) -> str | list[Any]:
    """Return the image as base64 or nested lists."""
    if isinstance(image, Path):
        image = image.read_bytes()
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    return image if isinstance(image, (str, list)) else image.tolist()


def decoded(png: str) -> bytes:
    """Return the bytes of a PNG in an answer."""
    return base64.b64decode(png)
