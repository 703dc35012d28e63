import numpy as np
import pytest

from gauntlet.artifacts import evaluation_sets
from gauntlet.errors import ArtefactError, InvalidInput
from tests import tiny


def test_head_is_the_first_n(tmp_path):
    loaded = evaluation_sets.load(tiny.evalset(tmp_path / "tiny.npz"))
    x, y = loaded.head(5)
    assert x.shape == (5, *tiny.SHAPE)
    assert np.array_equal((x * 255).round().astype(np.uint8), loaded.images[:5])
    assert y.tolist() == loaded.labels[:5].tolist()
    assert evaluation_sets.load_all([tmp_path]).keys() == {"tiny"}


@pytest.mark.parametrize("n", [0, -1, 41])
def test_more_than_there_are(tmp_path, n):
    with pytest.raises(InvalidInput, match="40 images"):
        evaluation_sets.load(tiny.evalset(tmp_path / "tiny.npz")).head(n)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"images": np.zeros((2, 8, 8)), "labels": [0, 1], "classes": ["a", "b"], "licence": "x"},
        {"images": np.zeros((2, 8, 8), np.uint8), "labels": [0], "classes": ["a", "b"], "licence": "x"},
        {"images": np.zeros((2, 8, 8), np.uint8), "labels": [0, 2], "classes": ["a", "b"], "licence": "x"},
    ],
)
def test_what_is_no_evaluation_set_is_named(tmp_path, arrays):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ArtefactError, match=r"bad\.npz"):
        evaluation_sets.load(tmp_path / "bad.npz")


def test_truncated(tmp_path):
    path = tiny.evalset(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtefactError, match=r"cut\.npz"):
        evaluation_sets.load(path)


def test_the_first_folder_that_has_a_set_wins(tmp_path):
    for folder, n in (("one", 3), ("two", 5)):
        tiny.evalset(tmp_path / folder / "tiny.npz", n=n)
    tiny.evalset(tmp_path / "two" / "more.npz", n=4)
    found = evaluation_sets.load_all([tmp_path / "one", tmp_path / "two", tmp_path / "missing"])
    assert {name: len(each.labels) for name, each in found.items()} == {"tiny": 3, "more": 4}
