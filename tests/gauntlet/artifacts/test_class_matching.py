"""Labels of images in the order of a model's classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.artifacts import class_matching, evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import labelled_images
from gauntlet.onnx_import.settings import ImageSetSettings
from tests import cases


def images(*classes: str) -> EvalSet:
    n = len(classes)
    return EvalSet("mine", np.zeros((n, 1, 2, 2), np.uint8), np.arange(n), classes, "none", "0" * 64)


NAMES = st.lists(
    st.from_regex(r"[a-zA-Z]{1,6}( [a-zA-Z]{1,6})?", fullmatch=True), min_size=2, max_size=20, unique_by=str.casefold
)


@settings(derandomize=True, database=None, max_examples=80)
@given(NAMES, st.data())
def test_every_image_keeps_its_class_by_name(names: list[str], data: st.DataObject) -> None:
    mine = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    written = [data.draw(st.sampled_from([name, name.upper(), name.replace(" ", "_"), name.lower()])) for name in mine]
    found = evaluation_sets.matched(images(*written), tuple(names), "model")
    assert [names[label] for label in found.labels] == mine
    assert found.classes == tuple(names)


@settings(derandomize=True, database=None, max_examples=50)
@given(st.sets(st.integers(0, 40), min_size=2), st.integers(41, 60))
def test_folders_named_by_numbers_are_outputs(numbers: set[int], outputs: int) -> None:
    folders = labelled_images.folder_order(map(str, sorted(numbers, key=str)))
    assert list(map(int, folders)) == sorted(numbers)
    for classes in (tuple(map(str, range(outputs))), tuple(f"class {i}" for i in range(outputs))):
        assert evaluation_sets.matched(images(*folders), classes, "model").labels.tolist() == sorted(numbers)


@pytest.mark.parametrize(
    ("folders", "order"),
    [
        (["10_dog", "2_cat", "1_eel"], ["1_eel", "2_cat", "10_dog"]),
        (["10", "9", "08"], ["08", "9", "10"]),
        (["b10", "b9"], ["b10", "b9"]),
        (["10", "9", "cat"], ["10", "9", "cat"]),
        (["10cats", "9cats"], ["10cats", "9cats"]),
    ],
)
def test_folders_sort_as_numbers_where_all_have_one(folders: list[str], order: list[str]) -> None:
    assert labelled_images.folder_order(folders) == tuple(order)


@pytest.mark.parametrize(
    ("mine", "classes", "says"),
    [
        (("cat", "dgo"), ("cat", "dog"), "mine has images of 'dgo', and model has 'dog'"),
        (("cat", "dog"), ("0", "1"), "mine has images of 'cat', 'dog', and the 2 outputs of model have no names"),
        (("0", "1", "2"), ("cat", "dog"), "mine has images of '0', '1', '2', and model has 'cat', 'dog'"),
        (("0", "1"), ("3", "7"), "mine has images of '0', '1', and model has '3', '7'"),
        (("crane", "dog"), ("crane", "dog", "crane"), "mine has images of 'crane'"),
        (("a", "A"), ("a", "b"), "mine has images of 'a', 'A'"),
    ],
)
def test_a_mismatch_says_which(mine: tuple[str, ...], classes: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        evaluation_sets.matched(images(*mine), classes, "model")
    assert str(caught.value).startswith(says)


def test_names_that_differ_by_case_alone_are_not_confused() -> None:
    assert evaluation_sets.matched(images("A", "a"), ("a", "A", "b"), "model").labels.tolist() == [1, 0]
    same = images("crane", "crane")
    assert evaluation_sets.matched(same, ("crane", "crane"), "model") is same


def test_numbers_that_name_classes_in_another_order() -> None:
    """As torchvision's ImageFolder sorts them: as text."""
    assert evaluation_sets.matched(images("2", "10"), ("0", "1", "10", "2"), "model").labels.tolist() == [3, 2]


def test_folders_and_arrays_of_the_same_images_agree() -> None:
    declared = ImageSetSettings(name="numbers")
    folders, arrays = (labelled_images.read(cases.read(f"numbers.{kind}"), declared) for kind in ("zip", "npz"))
    assert folders.classes == arrays.classes == tuple(map(str, range(12)))
    for found in (folders, arrays):
        shade = {int(label): int(image.mean()) for label, image in zip(found.labels, found.images, strict=True)}
        assert sorted(shade, key=shade.__getitem__) == list(range(12))


def test_arrays_that_name_their_classes_follow_what_is_declared(tmp_path) -> None:
    file = tmp_path / "named.npz"
    np.savez(file, images=np.zeros((3, 4, 4), np.uint8), labels=[0, 1, 1], classes=["dog", "cat"])
    found = labelled_images.read(file.read_bytes(), ImageSetSettings(name="m", classes=("cat", "dog", "eel")))
    assert (found.labels.tolist(), found.classes) == ([1, 0, 0], ("cat", "dog", "eel"))
    with pytest.raises(InvalidInput, match="names its classes dog, cat"):
        labelled_images.read(file.read_bytes(), ImageSetSettings(name="m", classes=("cat", "cow")))


def test_what_counts_as_nameless() -> None:
    assert class_matching.numbered(("0", "1", "2"))
    assert not class_matching.numbered(("0", "2"))
