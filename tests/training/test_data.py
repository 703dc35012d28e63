"""The data sets: a fixed split, and a clear word for every way in which a file can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gauntlet import evalset
from training import data
from training.__main__ import main
from training.data import DataError, DataSource, augment, load_test, load_training, to_pixels


def test_the_split_is_whole_disjoint_and_fixed(source: DataSource, root: Path) -> None:
    torch.manual_seed(1)
    first = load_training(source, root)
    torch.manual_seed(2)
    second = load_training(source, root)
    assert torch.equal(first.validation.images, second.validation.images)
    assert len(first.train.labels) == 64
    assert len(first.validation.labels) == 32

    held_out = {image.numpy().tobytes() for image in first.validation.images}
    kept = {image.numpy().tobytes() for image in first.train.images}
    assert not held_out & kept
    assert len(held_out | kept) == 96


def test_the_split_of_fashion_mnist_never_moves() -> None:
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(data.SPLIT_SEED))
    assert order[-5:].tolist() == [23640, 47458, 13712, 53980, 24694]


def test_images_keep_their_labels(source: DataSource, root: Path) -> None:
    test = load_test(source, root)
    raw = (root / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    assert test.images.shape == (40, 1, 28, 28)
    assert test.images.numpy().tobytes() == raw[16:]
    assert test.labels.tolist() == [index % 10 for index in range(40)]
    assert to_pixels(test.images).max() <= 1


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [missing, truncated, corrupt])
@pytest.mark.parametrize("arguments", [["train", "fashion-mnist-standard", "--trial"], ["data"]])
def test_a_damaged_file_is_named_with_the_way_out(
    damage: Callable[[Path], None],
    arguments: list[str],
    source: DataSource,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = root / source.folder / "raw" / source.train_images.name
    damage(path)

    def offline(*_: object, **__: object) -> None:
        if not path.exists():
            raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert "make data" in error


def test_data_already_there_needs_no_network(source: DataSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "complete" in capsys.readouterr().out


def test_a_failed_download_is_explained(source: DataSource, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    with pytest.raises(DataError, match="no network"):
        data.download(source, root)


@pytest.mark.usefixtures("source")
def test_the_evaluation_set_is_the_test_set_in_the_same_bytes_each_time(tmp_path: Path) -> None:
    for place in ("one", "two"):
        assert main(["evalset", "--evalsets", str(tmp_path / place)]) == 0
    path = tmp_path / "one" / "fashion-mnist.npz"
    assert path.read_bytes() == (tmp_path / "two" / "fashion-mnist.npz").read_bytes()

    loaded = evalset.load(path)
    test = load_test(data.SOURCES["fashion-mnist"], tmp_path / "data")
    np.testing.assert_array_equal(loaded.images, test.images.numpy())
    np.testing.assert_array_equal(loaded.labels, test.labels.numpy())
    description = json.loads(path.with_suffix(".json").read_text())
    assert description["sha256"] == loaded.sha256
    assert description["licence"] == loaded.licence == "MIT"
    assert description["n"] == 40


def test_augmentation_moves_and_mirrors_whole_images() -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 10, 5] = 255
    many = image.expand(400, 1, 28, 28)
    assert torch.equal(augment(many, 0, flip=False), many)
    mirrored = augment(many, 0, flip=True)
    assert set(mirrored.nonzero()[:, 3].tolist()) == {5, 22}
    moved = augment(many, 2, flip=False)
    assert moved.shape == many.shape
    assert set(moved.nonzero()[:, 2].tolist()) == {8, 9, 10, 11, 12}
    assert set(moved.nonzero()[:, 3].tolist()) == {3, 4, 5, 6, 7}
    assert (moved.sum((1, 2, 3)) == 255).all()
