"""A data set of a few fake images in torchvision's layout."""

import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from training import data
from training.__main__ import main
from training.data import DataSource, IdxFile
from training.recipes import RECIPES

TRAIN_IMAGES = 96
TEST_IMAGES = 40
SMALL = {"width": 4, "batch_size": 32}


def write_idx(path: Path, array: np.ndarray) -> IdxFile:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return IdxFile(path.name, len(content), hashlib.sha256(content).hexdigest())


def install(root: Path, patch: pytest.MonkeyPatch) -> DataSource:
    """Write the fake set, and register it in place of Fashion-MNIST."""
    random = np.random.default_rng(0)
    raw = root / "FashionMNIST" / "raw"

    def images(n: int) -> np.ndarray:
        return random.integers(0, 256, (n, 28, 28))

    fake = data.SOURCES["fashion-mnist"]._replace(
        train_images=write_idx(raw / "train-images-idx3-ubyte", images(TRAIN_IMAGES)),
        train_labels=write_idx(raw / "train-labels-idx1-ubyte", np.arange(TRAIN_IMAGES) % 10),
        test_images=write_idx(raw / "t10k-images-idx3-ubyte", images(TEST_IMAGES)),
        test_labels=write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(TEST_IMAGES) % 10),
    )
    patch.setitem(data.SOURCES, "fashion-mnist", fake)
    patch.setattr(data, "VALIDATION_IMAGES", 32)
    patch.setenv("GAUNTLET_DATA", str(root))
    return fake


def train(name: str, place: Path, *more: str, epochs: int = 1) -> int:
    """A recipe on the fake set, made small, with its runs and artefacts under ``place``."""
    fields = type(RECIPES[name].config).model_fields
    small = [word for key, value in SMALL.items() if key in fields for word in ("--set", f"{key}={value}")]
    places = ["--runs", str(place / "runs"), "--out", str(place / "artifacts")]
    return main(["train", name, "--device", "cpu", "--epochs", str(epochs), *small, *places, *more])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def source(root: Path, monkeypatch: pytest.MonkeyPatch) -> DataSource:
    """The fake set, under the root that GAUNTLET_DATA names."""
    return install(root, monkeypatch)


@pytest.fixture(scope="session")
def trained_standard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of ``fashion-mnist-standard``, trained once for all tests."""
    place = tmp_path_factory.mktemp("standard")
    with pytest.MonkeyPatch.context() as patch:
        install(place / "data", patch)
        assert train("fashion-mnist-standard", place) == 0
    return place / "artifacts" / "fashion-mnist-standard"


@pytest.fixture
def judge(trained_standard: Path, tmp_path: Path) -> Path:
    """The artefact that generators are judged by, where a run under ``tmp_path`` looks for it."""
    return Path(shutil.copytree(trained_standard, tmp_path / "artifacts" / trained_standard.name))
