"""Images at the border: bytes and nested lists in, PNG out; inside, tensors in [0, 1]."""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gauntlet.errors import InvalidInput

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 4_000_000  # of an image before it is resized; a compressed bomb is refused from its header
MODES = {1: "L", 3: "RGB"}
KNOWN = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})  # 8 bits a channel or fewer
COLOURS = {1: "grey", 3: "colour"}

Shape = tuple[int, int, int]


def from_bytes(data: bytes, shape: Shape, resize: bool = False) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP into 8 bits (C, H, W). Raises InvalidInput saying what the model expects.

    With ``resize`` an image of another size or colour mode is converted; alpha is put on black, like the data sets.
    """
    channels, height, width = shape
    with _readable():
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if math.prod(image.size) > MAX_PIXELS:
            raise InvalidInput(f"the image has {math.prod(image.size)} pixels, at most {MAX_PIXELS} are decoded")
        _check_header(image, shape, resize)
        image.load()
    mode = MODES[channels]
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        flat = Image.new("RGBA", image.size, (0, 0, 0, 255))
        flat.alpha_composite(image.convert("RGBA"))
        image = flat
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (width, height):
        image = image.resize(
            (width, height), Image.Resampling.BOX if min(image.size) > max(width, height) else Image.Resampling.BILINEAR
        )
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def batch(arrays: Sequence[NDArray[np.uint8] | NDArray[np.float32]]) -> Tensor:
    """What ``from_bytes`` and ``from_nested`` gave, (C, H, W) each, as (n, C, H, W) float32 in [0, 1]."""
    alike = len({array.dtype for array in arrays}) == 1
    return torch.from_numpy(_unit(np.stack(arrays if alike else [_unit(array) for array in arrays])))


def _unit(array: NDArray[Any]) -> NDArray[np.float32]:
    return (
        array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array.astype(np.float32, copy=False)
    )


def pixels(data: bytes) -> int:
    """How many an image has, from its header alone. Raises InvalidInput."""
    with _readable(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return math.prod(image.size)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInput("not a readable PNG, JPEG or WebP image") from error


def _check_header(image: Image.Image, shape: Shape, resize: bool) -> None:
    """Refuse what will not be converted before its pixels are decoded."""
    channels, height, width = shape
    if image.mode not in KNOWN:
        raise InvalidInput(f"images of mode {image.mode} (more than 8 bits a channel) are not converted")
    if not resize and (image.size != (width, height) or image.mode != MODES[channels]):
        raise InvalidInput(
            f"the model expects {width}x{height} {COLOURS[channels]} images (mode {MODES[channels]}), this one is "
            f"{image.width}x{image.height} in mode {image.mode}; send resize=true to convert it"
        )


def from_nested(value: object, shape: Shape) -> NDArray[np.float32]:
    """Nested lists of numbers in [0, 1], shaped (C, H, W) or for grey (H, W), to (C, H, W). Raises InvalidInput."""
    try:
        image = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidInput(f"not an array of numbers of shape {shape}") from error
    if tuple(image.shape) == shape[1:] and shape[0] == 1:
        image = image[None]
    if tuple(image.shape) != shape:
        raise InvalidInput(f"the model expects an array of shape {shape}, this one is {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise InvalidInput("a pixel is not a finite number")
    if float(image.min()) < 0 or float(image.max()) > 1:
        raise InvalidInput(
            f"pixels must lie in [0, 1], these reach from {float(image.min()):g} to {float(image.max()):g}"
        )
    return image.numpy()


def to_png(image: Tensor) -> bytes:
    """An image (C, H, W) in [0, 1], rounded to 8 bits."""
    array = (image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()  # (H, W, C)
    buffer = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def grid(images: Tensor, columns: int) -> Tensor:
    """Images (B, C, H, W) as one (C, rows * H, columns * W), filled up with black."""
    n, channels, height, width = images.shape
    rows = math.ceil(n / columns)
    sheet = torch.zeros(rows * columns, channels, height, width)
    sheet[:n] = images
    sheet = sheet.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return sheet.reshape(channels, rows * height, columns * width)


def amplified(noise: Tensor) -> Tensor:
    """A perturbation (C, H, W) as a picture: zero is mid-grey, its largest value black or white."""
    return 0.5 + noise / (2 * noise.abs().max().clamp_min(1e-12))
