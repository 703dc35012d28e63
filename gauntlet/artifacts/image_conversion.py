"""Conversion of images: from pixels and nested lists to arrays in [0, 1], and from these to PNG. Without torch."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from gauntlet.artifacts.picture_decoder import Shape
from gauntlet.errors import InvalidInput
from gauntlet.float32 import only_numbers, reach


def batch(arrays: Sequence[NDArray[np.uint8] | NDArray[np.float32]]) -> NDArray[np.float32]:
    """Stack images (C, H, W) from ``picture_decoder.decode`` and ``from_nested`` to float32 (n, C, H, W) in [0, 1]."""
    alike = len({array.dtype for array in arrays}) == 1
    return _unit(np.stack(arrays if alike else [_unit(array) for array in arrays]))


def _unit(array: NDArray[Any]) -> NDArray[np.float32]:
    """Convert bytes in 0..255 or floats in [0, 1] to float32 in [0, 1]."""
    return (
        array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array.astype(np.float32, copy=False)
    )


def from_nested(value: object, shape: Shape) -> NDArray[np.float32]:
    """Convert nested lists of numbers in [0, 1], (C, H, W) or for grey (H, W), to (C, H, W). Raises InvalidInput."""
    if not (isinstance(value, list) and only_numbers(value)):
        raise InvalidInput(f"not an array of numbers of shape {shape}")
    try:
        with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are refused below
            image = np.asarray(value, dtype=np.float32)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"not an array of numbers of shape {shape}") from error
    if image.shape == shape[1:] and shape[0] == 1:
        image = image[None]
    if image.shape != shape:
        raise InvalidInput(f"the model expects an array of shape {shape}, this one is {image.shape}")
    if not np.isfinite(image).all():
        raise InvalidInput("a pixel is not a finite number")
    if image.min() < 0 or image.max() > 1:
        raise InvalidInput(f"pixels must lie in [0, 1], these reach from {reach(image)}")
    return image


def to_png(image: ArrayLike) -> bytes:
    """Encode an image (C, H, W) in [0, 1], an array or a tensor on the CPU, as PNG, rounded to 8 bits."""
    array = np.rint(np.asarray(image) * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)  # (H, W, C)
    buffer = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def grid(images: ArrayLike, columns: int) -> NDArray[np.float32]:
    """Arrange images (B, C, H, W) as one image (C, rows * H, columns * W); empty places are black."""
    given = np.asarray(images, dtype=np.float32)
    n, channels, height, width = given.shape
    rows = math.ceil(n / columns)
    sheet = np.zeros((rows * columns, channels, height, width), np.float32)
    sheet[:n] = given
    sheet = sheet.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return sheet.reshape(channels, rows * height, columns * width)


def amplified(noise: ArrayLike) -> NDArray[np.float32]:
    """Scale a perturbation (C, H, W), an array or a tensor on the CPU, to a visible picture in [0, 1].

    Zero becomes mid-grey, and the value of the largest size black or white.
    """
    given = np.asarray(noise, dtype=np.float32)
    picture: NDArray[np.float32] = np.float32(0.5) + given / np.float32(2 * max(float(np.abs(given).max()), 1e-12))
    return picture
