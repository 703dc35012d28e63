"""Somebody's own labelled images: an .npz of arrays, or a zip of one folder per class. Read as if it were an attack."""

import io
import math
import zipfile
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gauntlet.adopt.declared import DeclaredImages
from gauntlet.errors import InvalidInput

MAX_IMAGES = 20_000
MAX_BYTES = 2**28  # of everything, uncompressed
MAX_PIXELS = 4_000_000  # of one picture
FORMATS = ("PNG", "JPEG", "WEBP")
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Pictures:
    """uint8 (N, C, H, W), int64 (N,), and the names of the classes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def refused(reason: str) -> InvalidInput:
    return InvalidInput(f"the file is refused: {reason}", "file")


def read(data: bytes, declared: DeclaredImages) -> Pictures:
    """Raises InvalidInput with the field ``file`` or one of DeclaredImages. Only for a process that may die."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_IMAGES + 10 or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise refused(f"at most {MAX_IMAGES} images and {MAX_BYTES} bytes, uncompressed, are read")
            if any(entry.filename.endswith(".npy") for entry in entries):
                found = _arrays(io.BytesIO(data), declared)
            else:
                found = _folders(archive, entries, declared)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
        raise refused(f"it is neither an .npz of arrays nor a zip of pictures ({str(error)[:200]})") from error
    if len(found.labels) == 0:
        raise refused("it holds no images")
    return found


def _arrays(file: io.BytesIO, declared: DeclaredImages) -> Pictures:
    with np.load(file, allow_pickle=False) as archive:
        if not {"images", "labels"} <= set(archive.files):
            raise refused(f"it holds {', '.join(archive.files)[:200]}; images and labels are wanted")
        images, labels = archive["images"], archive["labels"]
        named = [str(name) for name in archive["classes"]] if "classes" in archive.files else None
    images = _bytes(_by_channel(images))
    if len(images) > MAX_IMAGES:
        raise refused(f"at most {MAX_IMAGES} images are read, these are {len(images)}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise refused(f"labels must be {len(images)} whole numbers, not {labels.dtype} of the shape {labels.shape}")
    if len(labels) and labels.min() < 0:
        raise refused("a label is negative")
    most = int(labels.max()) if len(labels) else 0
    names = declared.classes or tuple(named or ())
    if not names:
        names = tuple(map(str, range(max(2, most + 1)))) if most < 10_000 else ()
    if most >= len(names):
        raise InvalidInput(f"there are {len(names)} classes, and a label {most}", "classes")
    return Pictures(images, labels.astype(np.int64), names)


def _by_channel(images: NDArray[np.generic]) -> NDArray[np.generic]:
    """To (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in MODES and images.shape[3] in MODES:
        return images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in MODES:
        raise refused(f"images must be (N, H, W), (N, C, H, W) or (N, H, W, C), not {images.shape}")
    return images


def _bytes(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images, np.uint8)
    if images.dtype.kind != "f" or (images.size and not (images.min() >= 0 and images.max() <= 1)):
        raise refused("images must be uint8, or floats in [0, 1]")
    return np.rint(images * 255).astype(np.uint8)


def _folders(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], declared: DeclaredImages) -> Pictures:
    """Classes take turns, so that the first n images are of all of them."""
    by_class: dict[str, list[zipfile.ZipInfo]] = {}
    for entry in sorted(entries, key=lambda entry: entry.filename):
        path = PurePosixPath(entry.filename)
        hidden = any(part.startswith((".", "__")) for part in path.parts)
        if not hidden and len(path.parts) >= 2:
            by_class.setdefault(path.parts[-2], []).append(entry)
    names = declared.classes or tuple(sorted(by_class))
    if set(by_class) - set(names) or len(names) < 2:
        raise InvalidInput(
            f"the folders are {', '.join(sorted(by_class))[:300] or 'none'}: two classes or more", "classes"
        )
    shape, images, labels = declared.input_shape, list[NDArray[np.uint8]](), list[int]()
    for turn in zip_longest(*(by_class.get(name, []) for name in names)):
        for label, entry in enumerate(turn):
            if entry is not None:
                image = _picture(archive.read(entry), entry.filename, shape, declared.input_shape is not None)
                shape = shape or (image.shape[0], image.shape[1], image.shape[2])
                images.append(image)
                labels.append(label)
                if len(images) * math.prod(shape) > MAX_BYTES:
                    raise refused(f"its pictures hold more than {MAX_BYTES} pixels")
    return Pictures(
        np.stack(images) if images else np.zeros((0, 1, 1, 1), np.uint8), np.asarray(labels, np.int64), names
    )


def _picture(data: bytes, name: str, shape: tuple[int, int, int] | None, convert: bool) -> NDArray[np.uint8]:
    """One picture as uint8 (C, H, W)."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if math.prod(image.size) > MAX_PIXELS:
            raise refused(f"{name} has {math.prod(image.size)} pixels, at most {MAX_PIXELS} are read")
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise refused(f"{name[:200]} is not a readable PNG, JPEG or WebP picture") from error
    channels = shape[0] if shape else (1 if image.mode in ("1", "L") else 3)
    size = (shape[2], shape[1]) if shape else image.size
    if not convert and (image.size != size or (image.mode in ("1", "L")) != (channels == 1)):
        raise refused(f"{name[:200]} is not like the first picture; say input_shape to convert all")
    image = image.convert(MODES[channels])
    image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(size[1], size[0], channels).transpose(2, 0, 1)
