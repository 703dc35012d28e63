"""A data set of a few fake images in torchvision's layout."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from training import data
from training.data import DataSource, IdxFile

TRAIN_IMAGES = 96
TEST_IMAGES = 40


def write_idx(path: Path, array: np.ndarray) -> IdxFile:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return IdxFile(path.name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSource:
    """The fake set, registered in place of Fashion-MNIST, under the root that GAUNTLET_DATA names."""
    random = np.random.default_rng(0)
    root = tmp_path / "data"
    raw = root / "FashionMNIST" / "raw"

    def images(n: int) -> np.ndarray:
        return random.integers(0, 256, (n, 28, 28))

    fake = data.SOURCES["fashion-mnist"]._replace(
        train_images=write_idx(raw / "train-images-idx3-ubyte", images(TRAIN_IMAGES)),
        train_labels=write_idx(raw / "train-labels-idx1-ubyte", np.arange(TRAIN_IMAGES) % 10),
        test_images=write_idx(raw / "t10k-images-idx3-ubyte", images(TEST_IMAGES)),
        test_labels=write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(TEST_IMAGES) % 10),
    )
    monkeypatch.setitem(data.SOURCES, "fashion-mnist", fake)
    monkeypatch.setattr(data, "VALIDATION_IMAGES", 32)
    monkeypatch.setenv("GAUNTLET_DATA", str(root))
    return fake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)
