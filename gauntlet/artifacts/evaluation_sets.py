"""Evaluation sets: labelled test images, stored as ``<root>/<name>.npz``."""

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from gauntlet.artifacts import class_matching
from gauntlet.artifacts.manifest import sha256_of
from gauntlet.errors import ArtefactError, InvalidInput


@dataclass(frozen=True)
class EvalSet:
    """Labelled images: uint8 (N, C, H, W), with labels int64 (N,)."""

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    licence: str
    sha256: str

    def head(self, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the first n images, float32 (n, C, H, W) in [0, 1], and labels, int64 (n,). Raises InvalidInput."""
        if not 1 <= n <= len(self.labels):
            raise InvalidInput(f"{self.name} has {len(self.labels)} images, n must be 1 to that many, not {n}", "n")
        return self.part(0, n)

    def part(self, first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return images and labels as ``head`` does, from ``first`` up to, but not including, ``last``."""
        return self.images[first:last].astype(np.float32) / np.float32(255), self.labels[first:last]


def load(path: Path) -> EvalSet:
    """Read an evaluation set. Raises ArtefactError, which names the file, if it is not a valid one."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stem, str(path), sha256_of(path))
    except OSError as error:
        raise ArtefactError(f"{path}: is not an evaluation set ({error})") from error


def pack(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str], licence: str) -> bytes:
    """Return the bytes of the file of an evaluation set; they are the same for the same content."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, labels=labels, classes=np.asarray(classes), licence=np.asarray(licence))
    return buffer.getvalue()


def unpack(name: str, data: bytes) -> EvalSet:
    """Read an evaluation set from the bytes that ``pack`` returned. Raises ArtefactError as ``load`` does."""
    return _read(io.BytesIO(data), name, name, hashlib.sha256(data).hexdigest())


def matched(images: EvalSet, classes: tuple[str, ...], model: str) -> EvalSet:
    """Return the evaluation set with the labels and class names of a model, matched by class name.

    Raises InvalidInput, which names the ``model``, for a class of the images that the model does not have.
    """
    if images.classes == classes:
        return images
    labels = class_matching.relabelled(images.labels, images.classes, classes)
    if labels is None:
        raise InvalidInput(class_matching.mismatch(images.name, images.classes, model, classes), "dataset")
    return dataclasses.replace(images, labels=labels, classes=classes)


def _read(file: IO[bytes], name: str, path: str, sha256: str) -> EvalSet:
    try:
        with np.load(file, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"].astype(np.int64)
            classes, licence = tuple(map(str, archive["classes"])), str(archive["licence"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ArtefactError(f"{path}: is not an evaluation set ({error})") from error
    if images.ndim == 3:
        images = images[:, None]  # grey
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels) or len(labels) == 0:
        raise ArtefactError(f"{path}: images must be uint8 (N, H, W) or (N, C, H, W) with N labels")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ArtefactError(f"{path}: a label is not one of its {len(classes)} classes")
    return EvalSet(name, images, labels, classes, licence, sha256)


def find(roots: Iterable[Path]) -> dict[str, Path]:
    """Return the file of every evaluation set in these folders, by name; of equal names the first folder's is used."""
    paths: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob("*.npz")):
            paths.setdefault(path.stem, path)
    return paths


def load_all(roots: Iterable[Path]) -> dict[str, EvalSet]:
    """Load every evaluation set in these folders, by name. Raises ArtefactError if one is invalid."""
    return {name: load(path) for name, path in find(roots).items()}


def missing(name: str, known: Iterable[str]) -> str:
    """Return the error message for an evaluation set that does not exist."""
    there = ", ".join(sorted(known)) or "none"
    return f"no evaluation set is called {name!r}; there are {there} (`make data` writes those of the data sets)"
