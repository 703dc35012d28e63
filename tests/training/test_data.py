"""The data sets: a fixed split, and a clear word for every way in which a file can be wrong."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gauntlet.artifacts import evaluation_sets
from training import data
from training.__main__ import main
from training.data import DataError, DataSource, File, augment, load_test, load_training, to_pixels


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
    content[2] ^= 1
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
    path = root / source.train[0].path
    damage(path)

    def offline(*_: object, **__: object) -> None:
        if not path.exists():
            raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert "make data" in error


@pytest.mark.parametrize("damage", [missing, truncated, corrupt])
@pytest.mark.usefixtures("source")
def test_a_damaged_batch_of_cifar10_is_named(damage: Callable[[Path], None], root: Path) -> None:
    path = root / "cifar-10-batches-py" / "data_batch_2"
    damage(path)
    with pytest.raises(DataError, match="data_batch_2"):
        load_training(data.SOURCES["cifar10"], root)


@pytest.mark.usefixtures("source")
def test_a_pickle_cannot_run_code(root: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "touched",)

    (root / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({"data": Attack()}))
    with pytest.raises(DataError, match="test_batch"):
        load_test(data.SOURCES["cifar10"], root)
    assert not (tmp_path / "touched").exists()


def test_one_changed_pixel_is_no_longer_the_official_file(
    source: DataSource, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = [
        File(file.path, hashlib.md5((root / file.path).read_bytes(), usedforsecurity=False).hexdigest())
        for file in source.test
    ]
    monkeypatch.setitem(data.SOURCES, source.name, source._replace(test=tuple(test)))
    assert load_test(data.SOURCES[source.name], root).official
    path = root / source.test[0].path
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    assert not load_test(data.SOURCES[source.name], root).official


@pytest.mark.usefixtures("source")
def test_other_images_in_the_format_of_a_set(tmp_path: Path, root: Path) -> None:
    batch = root / "cifar-10-batches-py" / "data_batch_1"
    words = ["evalset", "cifar10", "--file", str(batch), "--name", "other", "--evalsets", str(tmp_path)]
    assert main(words) == 0
    assert evaluation_sets.load(tmp_path / "other.npz").images.shape == (20, 3, 32, 32)
    assert main(["evalset", "--file", str(batch)]) == 1


def test_data_already_there_needs_no_network(source: DataSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "complete" in capsys.readouterr().out


def test_a_failed_download_is_explained(source: DataSource, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / source.test[0].path).unlink()

    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    with pytest.raises(DataError, match="no network"):
        data.download(source, root)


@pytest.mark.usefixtures("source")
def test_the_evaluation_sets_are_the_test_set_in_the_same_bytes_each_time(tmp_path: Path) -> None:
    for place in ("one", "two"):
        assert main(["evalset", "--evalsets", str(tmp_path / place)]) == 0
    for name in data.SOURCES:
        path = tmp_path / "one" / f"{name}.npz"
        assert path.read_bytes() == (tmp_path / "two" / f"{name}.npz").read_bytes()
        loaded = evaluation_sets.load(path)
        test = load_test(data.SOURCES[name], tmp_path / "data")
        np.testing.assert_array_equal(loaded.images, test.images.numpy())
        np.testing.assert_array_equal(loaded.labels, test.labels.numpy())
        description = json.loads(path.with_suffix(".json").read_text())
        assert description["sha256"] == loaded.sha256
        assert description["licence"] == loaded.licence
        assert "NOT the official files" in loaded.licence
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


def test_the_digests_of_cifar10_are_those_that_torchvision_checks() -> None:
    from torchvision import datasets  # noqa: PLC0415

    source = data.SOURCES["cifar10"]
    ours = [(Path(file.path).name, file.md5) for file in (*source.train, *source.test)]
    assert ours == [(name, md5) for name, md5 in (*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list)]
