"""A data set of a few fake images in torchvision's layout."""

import pickle
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from training import attack_metrics, data
from training.__main__ import main
from training.data import SOURCES, DataSource
from training.recipes import RECIPES

TRAIN_IMAGES = 96
TEST_IMAGES = 40
SMALL: dict[str, object] = {
    "width": 4,
    "batch_size": 32,
    "filters": [4] * 3,
    "blocks": [1, 1],
    "features": 8,
    "steps": 1,
}


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_batch(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": images.astype(np.uint8).reshape(-1, 3072), "labels": labels.tolist()}))


def install(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Write small fake sets in torchvision's layout, in place of all three."""
    random = np.random.default_rng(0)
    for folder in ("MNIST", "FashionMNIST"):
        for part, n in (("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)):
            raw = root / folder / "raw"
            write_idx(raw / f"{part}-images-idx3-ubyte", random.integers(0, 256, (n, 28, 28)))
            write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n) % 10)
    batches = root / "cifar-10-batches-py"
    for number in range(1, 6):
        write_batch(batches / f"data_batch_{number}", random.integers(0, 256, (20, 3072)), np.arange(20) % 10)
    write_batch(batches / "test_batch", random.integers(0, 256, (TEST_IMAGES, 3072)), np.arange(TEST_IMAGES) % 10)
    patch.setattr(data, "VALIDATION_IMAGES", 32)
    patch.setattr(attack_metrics, "CERTIFY", {"samples": 100, "alpha": 0.001})
    patch.setenv("GAUNTLET_DATA", str(root))


def train(name: str, place: Path, *more: str, epochs: int = 1) -> int:
    """A recipe on the fake set, made small, with its runs and artefacts under ``place``."""
    config = RECIPES[name].config.model_dump()
    small = [word for key, value in SMALL.items() if config.get(key) for word in ("--set", f"{key}={value}")]
    places = ["--runs", str(place / "runs"), "--out", str(place / "artifacts")]
    return main(["train", name, "--device", "cpu", "--epochs", str(epochs), *small, *places, *more])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def source(root: Path, monkeypatch: pytest.MonkeyPatch) -> DataSource:
    """Fake sets under the root that GAUNTLET_DATA names; Fashion-MNIST's."""
    install(root, monkeypatch)
    return SOURCES["fashion-mnist"]


@pytest.fixture(scope="session")
def trained_standard(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the artefact ``<data set>-standard`` of a data set, trained once for all tests, when first asked."""
    place = tmp_path_factory.mktemp("standard")

    @cache
    def trained(dataset: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            install(place / "data", patch)
            assert train(f"{dataset}-standard", place) == 0
        return place / "artifacts" / f"{dataset}-standard"

    return trained


@pytest.fixture
def judge(trained_standard: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The artefacts that generators are judged by, where a run under ``tmp_path`` looks for them.

    Those of the data set of the recipe that the test's parameter ``name`` has; of Fashion-MNIST where it has none.
    """
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    dataset = RECIPES[parameters.get("name", "fashion-mnist-standard")].config.dataset
    standard = trained_standard(dataset)
    shutil.copytree(standard, tmp_path / "artifacts" / standard.name)
    return tmp_path / "artifacts"
