"""Decoder of PNG, JPEG and WebP bytes to 8-bit pixels, shared by all entry points. Without torch.

- EXIF orientation is applied: pixels are those that a viewer shows.
- Transparent pixels are put on black, the background of the data sets. Palettes are resolved, CMYK becomes RGB.
- A picture of more than 8 bits a channel is refused, rather than silently truncated. So is an animation, because it is
  not one picture. Of a JPEG that contains further pictures (MPO, as phones write it) the first is read.
- Only with ``convert`` is a picture of another size or colour scaled (bilinear, which averages where it shrinks) or
  made grey (ITU-R 601) or colour.
"""

import contextlib
import io
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gauntlet.errors import InvalidInput

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 25_000_000  # of one picture, before it is scaled: enough for photos of a phone
MODES = {1: "L", 3: "RGB"}
GREY = frozenset({"1", "L", "LA"})
EIGHT_BITS = frozenset({*GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
COLOURS = {1: "grey", 3: "colour"}
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that undoes each orientation. Pillow's ``exif_transpose`` rewrites the EXIF too, which may fail."""

Shape = tuple[int, int, int]
Pixels = NDArray[np.uint8]


class OtherShape(InvalidInput):
    """The picture has another size or colour than expected; ``convert`` would accept it."""


def decode(data: bytes, shape: Shape | None = None, *, convert: bool = False) -> Pixels:
    """Return the pixels of a picture, uint8 (C, H, W); C is 1 for grey, 3 for colour.

    If ``shape`` is given, a picture of another shape is refused, or with ``convert`` converted.

    Raises OtherShape for another shape, and InvalidInput for a picture that is refused whatever its shape.
    """
    with _opened(data) as image:
        _check(image, data)
        if shape is not None and not convert:  # before decoding: orientation can at most swap the sides
            _check_shape(image, shape, sorted(image.size) == sorted(shape[1:]))
        image.load()
        upright = _upright(image)
        if shape is None:
            shape = (_channels(upright), upright.height, upright.width)
        elif not convert:
            _check_shape(upright, shape, (upright.height, upright.width) == shape[1:])
        return _pixels(upright, shape)


def pixel_count(data: bytes) -> int:
    """Return the number of pixels of a picture, from its header alone. Raises InvalidInput."""
    with _opened(data) as image:
        return math.prod(image.size)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except InvalidInput:
        raise
    except Exception as error:  # the errors of Pillow's decoders for damaged files share no base
        raise InvalidInput("not a readable PNG, JPEG or WebP image") from error


def _check(image: Image.Image, data: bytes) -> None:
    """Raise InvalidInput, from the header alone, for pictures that are too large, too deep or animated."""
    if math.prod(image.size) > MAX_PIXELS:
        raise InvalidInput(f"the image has {math.prod(image.size)} pixels, at most {MAX_PIXELS} are decoded")
    deep = image.format == "PNG" and data[24] > 8  # bits a channel, in IHDR: Pillow silently truncates colours to 8
    if deep or image.mode not in EIGHT_BITS:
        raise InvalidInput("the image has more than 8 bits a channel; convert it to 8, or send numbers in [0, 1]")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in ("PNG", "WEBP"):
        raise InvalidInput(f"the image is an animation of {frames} frames; send one of them")


def _channels(image: Image.Image) -> int:
    return 1 if image.mode in GREY else 3


def _check_shape(image: Image.Image, shape: Shape, fits: bool) -> None:
    if not fits or _channels(image) != shape[0]:
        raise OtherShape(
            f"{shape[2]}x{shape[1]} {COLOURS[shape[0]]} images are expected, this one is "
            f"{image.width}x{image.height} {COLOURS[_channels(image)]}"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Return the image with its EXIF orientation applied."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # unreadable EXIF is ignored
        return image
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _pixels(image: Image.Image, shape: Shape) -> Pixels:
    """Convert the image to the colours and size of ``shape``, and return its pixels (C, H, W)."""
    channels, height, width = shape
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.new("RGB", image.size)  # black
        image.paste(coloured, mask=coloured)
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels).transpose(2, 0, 1)
