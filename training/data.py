"""The data sets: torchvision's own download and layout, every file checked against a known digest before use."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from gauntlet.manifest import sha256_of

VALIDATION_IMAGES = 5_000
SPLIT_SEED = 20_170_825  # of the split alone: the same images are held out whatever a run's seed is
_IDX_HEADER = {3: 16, 1: 8}  # bytes before the data, by number of dimensions


class DataError(Exception):
    """A data file is missing, truncated or corrupt; the message names it and the way out."""


class IdxFile(NamedTuple):
    """One file in the format of the MNIST family, after unpacking."""

    name: str
    size: int
    sha256: str


class DataSource(NamedTuple):
    """A data set of the MNIST family as torchvision stores it under ``<root>/<folder>/raw``."""

    folder: str
    classes: tuple[str, ...]
    licence: str
    source: str
    train_images: IdxFile
    train_labels: IdxFile
    test_images: IdxFile
    test_labels: IdxFile

    @property
    def files(self) -> tuple[IdxFile, ...]:
        return self.train_images, self.train_labels, self.test_images, self.test_labels


class Examples(NamedTuple):
    """Images (N, 1, 28, 28) uint8 and labels (N,) int64."""

    images: Tensor
    labels: Tensor


class TrainingData(NamedTuple):
    """What a training job may look at: the test set is not in it."""

    train: Examples
    validation: Examples
    classes: tuple[str, ...]
    sha256: str


SOURCES: dict[str, DataSource] = {
    "fashion-mnist": DataSource(
        folder="FashionMNIST",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist (Xiao, Rasul and Vollgraf, arXiv 1708.07747)",
        train_images=IdxFile(
            "train-images-idx3-ubyte", 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        train_labels=IdxFile(
            "train-labels-idx1-ubyte", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        test_images=IdxFile(
            "t10k-images-idx3-ubyte", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        test_labels=IdxFile(
            "t10k-labels-idx1-ubyte", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    ),
}


def data_root() -> Path:
    """Where the data sets lie: ``GAUNTLET_DATA``, by default ``data/``."""
    return Path(os.environ.get("GAUNTLET_DATA", "data"))


def download(source: DataSource, root: Path) -> None:
    """Fetch what is missing with torchvision's own downloader, then check every file.

    Raises:
        DataError: the download failed, or a file that was already there is truncated or corrupt.
    """
    fetch: Callable[..., Any] = getattr(datasets, source.folder)
    try:
        fetch(str(root), train=True, download=True)
    except (OSError, RuntimeError, AssertionError, ValueError) as error:
        verify(source, root, source.files)  # a damaged file found on the way is the better explanation
        raise DataError(f"download into {root} failed: {error}; check the network and run `make data` again") from error
    verify(source, root, source.files)


def verify(source: DataSource, root: Path, files: Iterable[IdxFile]) -> None:
    """Check that files are there, whole and unaltered.

    Raises:
        DataError: naming the first file that is not.
    """
    for file in files:
        path = root / source.folder / "raw" / file.name
        if not path.is_file():
            raise DataError(
                f"{path} is missing: run `make data`, or let GAUNTLET_DATA name a folder of torchvision's layout"
            )
        size = path.stat().st_size
        if size != file.size:
            raise DataError(f"{path} has {size} bytes instead of {file.size}: delete it and run `make data`")
        if sha256_of(path) != file.sha256:
            raise DataError(f"{path} is corrupt (sha256 differs): delete it and run `make data`")


def load_training(source: DataSource, root: Path) -> TrainingData:
    """The training set, split in two by a permutation that depends on nothing but its size.

    Raises:
        DataError: a file is missing, truncated or corrupt.
    """
    files = (source.train_images, source.train_labels)
    images, labels = _read(source, root, *files)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    kept, held_out = order[:-VALIDATION_IMAGES], order[-VALIDATION_IMAGES:]
    return TrainingData(
        train=Examples(images[kept], labels[kept]),
        validation=Examples(images[held_out], labels[held_out]),
        classes=source.classes,
        sha256=hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest(),
    )


def load_test(source: DataSource, root: Path) -> Examples:
    """The test set: for the model that ships, and for the evaluation set.

    Raises:
        DataError: a file is missing, truncated or corrupt.
    """
    return _read(source, root, source.test_images, source.test_labels)


def _read(source: DataSource, root: Path, images: IdxFile, labels: IdxFile) -> Examples:
    verify(source, root, (images, labels))
    raw = root / source.folder / "raw"
    pixels = np.fromfile(raw / images.name, dtype=np.uint8)[_IDX_HEADER[3] :].reshape(-1, 1, 28, 28)
    classes = np.fromfile(raw / labels.name, dtype=np.uint8)[_IDX_HEADER[1] :]
    return Examples(torch.from_numpy(pixels), torch.from_numpy(classes.astype(np.int64)))


def to_pixels(images: Tensor) -> Tensor:
    """uint8 images to float32 pixels in [0, 1]."""
    return images.to(torch.float32) / 255


def augment(images: Tensor, shift: int, *, flip: bool) -> Tensor:
    """Move every image by up to ``shift`` pixels each way, and mirror half of them.

    Args:
        images: (B, C, H, W), of any type.
        shift: largest move in pixels; 0 leaves images where they are.
        flip: whether to mirror left and right.

    Returns:
        (B, C, H, W). Draws from torch's global CPU generator.
    """
    batch, _, height, width = images.shape
    if flip:
        mirrored = torch.rand(batch) < 0.5
        images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
    if shift:
        padded = torch.nn.functional.pad(images, (shift, shift, shift, shift))
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2 shift + 1, 2 shift + 1, H, W)
        top, left = torch.randint(2 * shift + 1, (2, batch))
        images = windows[torch.arange(batch), :, top, left]
    return images
