"""Reader of a user's labelled images, an .npz of arrays or a zip of one folder per class. The file is untrusted."""

import io
import math
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gauntlet.artifacts import picture_decoder
from gauntlet.artifacts.class_matching import relabelled
from gauntlet.artifacts.picture_decoder import OtherShape, Shape
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.text import storable

MAX_IMAGES = 20_000
MAX_BYTES = 2**28  # of all files in the zip, uncompressed
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Pictures:
    """Images uint8 (N, C, H, W), labels int64 (N,), and the names of the classes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def refused(reason: str) -> InvalidInput:
    """Return the error for a refused file; its field is ``file``."""
    return InvalidInput(f"the file is refused: {reason}", "file")


def read(data: bytes, declared: ImageSetSettings) -> Pictures:
    """Read and check the images. The file may be hostile: call this only in a process that may die.

    Raises InvalidInput with the field ``file`` or one of ImageSetSettings.
    """
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
    if unfit := [name for name in found.classes if not storable(name)]:
        raise InvalidInput(f"the class {unfit[0]!r:.200} has a NUL or half of a surrogate pair in its name", "classes")
    return found


def _arrays(file: io.BytesIO, declared: ImageSetSettings) -> Pictures:
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
    if named and declared.classes and tuple(named) != declared.classes and most < len(named):
        labels, most = _in_order(labels, named, declared.classes), len(names) - 1
    if not names:
        names = tuple(map(str, range(max(2, most + 1)))) if most < 10_000 else ()
    if most >= len(names):
        raise InvalidInput(f"there are {len(names)} classes, and a label {most}", "classes")
    return Pictures(images, labels.astype(np.int64), names)


def _in_order(labels: NDArray[np.int64], named: list[str], declared: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the labels renumbered from the class order of the file to the declared order. Raises InvalidInput."""
    moved = relabelled(labels, named, declared)
    if moved is None:
        words = f"the file names its classes {', '.join(named)[:200]}, and {', '.join(declared)[:200]} are declared"
        raise InvalidInput(words, "classes")
    return moved


def _by_channel(images: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return images (N, H, W), (N, C, H, W) or (N, H, W, C) as (N, C, H, W). Raises InvalidInput for other shapes."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in CHANNELS and images.shape[3] in CHANNELS:
        return images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in CHANNELS:
        raise refused(f"images must be (N, H, W), (N, C, H, W) or (N, H, W, C), not {images.shape}")
    return images


def _bytes(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images, np.uint8)
    if images.dtype.kind != "f" or (images.size and not (images.min() >= 0 and images.max() <= 1)):
        raise refused("images must be uint8, or floats in [0, 1]")
    return np.rint(images * 255).astype(np.uint8)


def _folders(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], declared: ImageSetSettings) -> Pictures:
    """Read pictures from one folder per class, one of each class in turn, so that the first n cover all classes."""
    by_class: dict[str, list[zipfile.ZipInfo]] = {}
    for entry in sorted(entries, key=lambda entry: entry.filename):
        path = PurePosixPath(entry.filename)
        hidden = any(part.startswith((".", "__")) for part in path.parts)
        if not hidden and len(path.parts) >= 2:
            by_class.setdefault(path.parts[-2], []).append(entry)
    names = declared.classes or folder_order(by_class)
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


def folder_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort folder names by their numbers if all are numbers or begin with one (``0_cat``), otherwise as text."""
    found = {name: re.fullmatch(r"([0-9]{1,9})(?:[ _.-].*)?", name) for name in names}
    numbers = {name: int(match[1]) for name, match in found.items() if match is not None}
    return tuple(sorted(found, key=lambda name: (numbers[name] if len(numbers) == len(found) else 0, name)))


def _picture(data: bytes, name: str, shape: Shape | None, convert: bool) -> NDArray[np.uint8]:
    """Decode one picture to uint8 (C, H, W). Raises InvalidInput that names the file."""
    try:
        return picture_decoder.decode(data, shape, convert=convert)
    except OtherShape as error:
        raise refused(
            f"{name[:200]} is not like the first picture ({error}); declare input_shape to convert all"
        ) from error
    except InvalidInput as error:
        raise refused(f"{name[:200]}: {error}") from error
