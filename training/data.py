"""The data sets, in torchvision's layout and by its downloader; digests tell official files from other copies."""

import hashlib
import os
import pickle
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VALIDATION_IMAGES = 5_000
SPLIT_SEED = 20_170_825  # of the split only: the same images are held out for every seed of a run


class DataError(Exception):
    """A data file is missing or damaged; the message names it and says what to do."""


class File(NamedTuple):
    """One file of a data set: its path in torchvision's layout, and the MD5 digest of the official file."""

    path: str
    md5: str


class Examples(NamedTuple):
    """Images (N, C, H, W) uint8 and labels (N,) int64, and the origin of their files."""

    images: Tensor
    labels: Tensor
    official: bool  # every file has the digest of the official one
    sha256: str  # of the files' digests, in order


class TrainingData(NamedTuple):
    """The data that a training job may use: without the test set."""

    train: Examples
    validation: Examples
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


class DataSource(NamedTuple):
    """A data set as torchvision stores it under a root; ``mean`` and ``std`` are of the training pixels, by channel."""

    name: str
    torchvision: str
    read: Callable[[list[Path]], tuple[NDArray[np.uint8], NDArray[np.int64]]]
    train: tuple[File, ...]
    test: tuple[File, ...]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    source: str


def read_idx(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the two files of a data set in MNIST's format: images (N, 1, H, W) and labels (N,)."""
    arrays = []
    for path in paths:
        content = path.read_bytes()
        rank = content[3] if content[:3] == b"\0\0\x08" else 0
        dims = struct.unpack_from(f">{rank}I", content, 4)
        arrays.append(np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(dims))
    images, labels = arrays
    return images[:, None], labels.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that accepts only numpy arrays, as in CIFAR-10's files: nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"holds a {module}.{name}")
        return allowed[name]


def read_batches(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the batch files of CIFAR-10: images (N, 3, 32, 32) and labels (N,)."""
    batches = []
    for path in paths:
        with path.open("rb") as file:
            batches.append(_ArraysOnly(file, encoding="latin1").load())
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return images, np.concatenate([batch["labels"] for batch in batches]).astype(np.int64)


SOURCES: dict[str, DataSource] = {
    "mnist": DataSource(
        name="mnist",
        torchvision="MNIST",
        read=read_idx,
        train=(
            File("MNIST/raw/train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
            File("MNIST/raw/train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
        ),
        test=(
            File("MNIST/raw/t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
            File("MNIST/raw/t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
        ),
        shape=(1, 28, 28),
        classes=tuple("0123456789"),
        mean=(0.1307,),
        std=(0.3081,),
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist (LeCun, Cortes and Burges)",
    ),
    "fashion-mnist": DataSource(
        name="fashion-mnist",
        torchvision="FashionMNIST",
        read=read_idx,
        train=(
            File("FashionMNIST/raw/train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            File("FashionMNIST/raw/train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
        ),
        test=(
            File("FashionMNIST/raw/t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
            File("FashionMNIST/raw/t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
        ),
        shape=(1, 28, 28),
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
        mean=(0.2860,),
        std=(0.3530,),
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist (Xiao, Rasul and Vollgraf, arXiv 1708.07747)",
    ),
    "cifar10": DataSource(
        name="cifar10",
        torchvision="CIFAR10",
        read=read_batches,
        train=tuple(
            File(f"cifar-10-batches-py/data_batch_{number}", md5)
            for number, md5 in enumerate(
                (
                    "c99cafc152244af753f735de768cd75f",
                    "d4bba439e000b95fd0a9bffe97cbabec",
                    "54ebc095f3ab1f0389bbae665268c751",
                    "634d18415352ddfa80567beed471001a",
                    "482c414d41f54cd18b22e5b47cb7c3cb",
                ),
                start=1,
            )
        ),
        test=(File("cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e"),),
        shape=(3, 32, 32),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        licence="no formal licence; citation asked for",
        source="https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, Learning Multiple Layers of Features, 2009)",
    ),
}


def data_root() -> Path:
    """Return the folder of the data sets: ``GAUNTLET_DATA``, by default ``data/``."""
    return Path(os.environ.get("GAUNTLET_DATA", "data"))


def download(source: DataSource, root: Path) -> None:
    """Download the set with torchvision's downloader, unless readable files are there already.

    Raises:
        DataError: the download failed, or a file that was already there is damaged.
    """
    absent = [path for file in (*source.train, *source.test) if not (path := root / file.path).is_file()]
    if absent:
        from torchvision import datasets  # noqa: PLC0415  six seconds of a core, and reading needs none of it

        fetch: Callable[..., Any] = getattr(datasets, source.torchvision)
        try:
            fetch(str(root), train=True, download=True)
        except (OSError, RuntimeError, AssertionError, ValueError) as error:
            raise DataError(
                f"{absent[0]} is missing, and the download failed: {error}; check the network and run `make data` again"
            ) from error
    load_training(source, root)
    load_test(source, root)


def load_training(source: DataSource, root: Path) -> TrainingData:
    """Load the training set, split in two by a permutation that depends only on its size.

    Raises:
        DataError: a file is missing or damaged.
    """
    images, labels, official, sha256 = _read(source, root, source.train)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
    train, held_out = order[:-VALIDATION_IMAGES], order[-VALIDATION_IMAGES:]
    return TrainingData(
        train=Examples(images[train], labels[train], official, sha256),
        validation=Examples(images[held_out], labels[held_out], official, sha256),
        classes=source.classes,
        mean=source.mean,
        std=source.std,
    )


def load_test(source: DataSource, root: Path) -> Examples:
    """Load the test set: to measure the exported model, and to write the evaluation set.

    Raises:
        DataError: a file is missing or damaged.
    """
    return _read(source, root, source.test)


def load_other(source: DataSource, path: Path) -> Examples:
    """Load the examples of another file in the set's format: cifar10 only, whose files hold both images and labels.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _read(source, path.parent, (File(path.name, ""),))


def _read(source: DataSource, root: Path, files: Iterable[File]) -> Examples:
    """Read the examples of these files."""
    paths = [root / file.path for file in files]
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"{path} is missing: run `make data`, or let GAUNTLET_DATA name a folder of torchvision's layout"
            )
    try:
        images, labels = source.read(paths)
        fits = images.dtype == np.uint8 and images.shape == (len(labels), *source.shape) and len(labels) > 0
        if not fits or not 0 <= labels.min() <= labels.max() < len(source.classes):
            raise ValueError(f"images {images.shape}, labels {labels.shape}")
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, struct.error, pickle.PickleError) as error:
        named = " or ".join(map(str, paths))
        raise DataError(f"{named} is truncated or corrupt ({error}): delete it and run `make data`") from error
    contents = [path.read_bytes() for path in paths]
    official = all(
        hashlib.md5(content, usedforsecurity=False).hexdigest() == file.md5
        for file, content in zip(files, contents, strict=True)
    )
    sha256 = hashlib.sha256("".join(hashlib.sha256(content).hexdigest() for content in contents).encode()).hexdigest()
    return Examples(torch.from_numpy(images.copy()), torch.from_numpy(labels), official, sha256)


def to_pixels(images: Tensor) -> Tensor:
    """Convert uint8 images to float32 pixels in [0, 1]."""
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
