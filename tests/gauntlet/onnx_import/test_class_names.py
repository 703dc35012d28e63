"""Class names in the dialects in which they lie in a model's metadata."""

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import class_names, companion_files
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.conversion import COMPANIONS, adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests import cases, zoo

ANIMALS = ("cat", "dog", "eel")


@pytest.mark.parametrize(
    "text",
    [
        '["cat", "dog", "eel"]',
        "['cat', 'dog', 'eel']",
        "('cat', 'dog', 'eel')",
        '{"0": "cat", "2": "eel", "1": "dog"}',
        "{0: 'cat', 2: 'eel', 1: 'dog'}",
        '{"1": "cat", "3": "eel", "2": "dog"}',
        '{"LABEL_2": "eel", "LABEL_0": "cat", "LABEL_1": "dog"}',
        '{"eel": 2, "cat": 0, "dog": 1}',
        "{'eel': 2, 'cat': 0, 'dog': 1}",
        '{"id2label": {"1": "dog", "0": "cat", "2": "eel"}, "model_type": "vit"}',
        '{"1": ["n02", "dog"], "0": ["n01", "cat"], "2": ["n03", "eel"]}',
        "cat\ndog\neel\n",
        "\r\ncat\r\ndog\r\neel",
        "2: eel\n0: cat\n1: dog",
        "0 cat\n1 dog\n2 eel",
        "cat, dog,eel",
        '"cat,dog,eel"',
    ],
)
def test_every_dialect_says_the_same(text: str) -> None:
    assert class_names.parse(text)[0] == ANIMALS


@pytest.mark.parametrize("text", ["", "cat", "7", "{}", "[]", '{"0": "cat", "5": "dog"}', "[" * 5000, "x" * 2_000_000])
def test_what_names_no_classes(text: str) -> None:
    assert class_names.parse(text)[0] == ()


def test_folders_named_by_numbers_are_names_of_their_outputs() -> None:
    assert class_names.parse('{"7": 1, "3": 0}')[0] == ("3", "7")


WORDS = st.lists(
    st.from_regex(r"[A-Za-z][A-Za-z /-]{0,8}[A-Za-z]", fullmatch=True), min_size=2, max_size=30, unique=True
)


@settings(derandomize=True, database=None, max_examples=60)
@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_an_object_says_nothing(words: list[str], draw) -> None:
    pairs = list(enumerate(words))
    draw.shuffle(pairs)
    forward, backward = {str(i): word for i, word in pairs}, {word: i for i, word in pairs}
    for text in (json.dumps(forward), json.dumps(backward), str(dict(pairs)), str(backward), json.dumps(words)):
        assert class_names.parse(text)[0] == tuple(words)
    assert class_names.parse("\n".join(words))[0] == tuple(words)


@settings(derandomize=True, database=None, max_examples=100)
@given(st.text(max_size=60) | st.from_regex(r"[\[{(\"',:0-9a ]{1,20}", fullmatch=True))
def test_any_text_gives_words_or_nothing(text: str) -> None:
    found, _ = class_names.parse(text)
    assert all(isinstance(name, str) for name in found)


@pytest.mark.parametrize("key", [*class_names.KEYS, "Names", "CLASSES"])
def test_every_key_is_read(key: str) -> None:
    found, remarks = class_names.from_metadata({key: "cat,dog,eel", "producer": "a,b,c"}, 3)
    assert found is not None
    assert found.names == ANIMALS
    assert repr(key) in found.reason
    assert not remarks


def test_names_by_their_keys() -> None:
    adopted = adopt(cases.read("names-by-key.onnx"), ModelSettings(name="m"))
    assert adopted.manifest.classes == tuple(f"class{i}" for i in range(12))
    choice = adopted.manifest.adoption.choices["classes"]  # type: ignore[union-attr]
    assert not choice.given
    assert "metadata entry 'names' of the file, by its keys" in choice.reason


def classes(metadata: dict[str, str]) -> tuple[tuple[str, ...], str]:
    manifest = adopt(zoo.dense((64,), metadata=metadata), ModelSettings(name="m")).manifest
    return manifest.classes, manifest.adoption.choices["classes"].reason  # type: ignore[union-attr]


def test_what_is_not_used_and_what_is_not_unique_is_said() -> None:
    found, reason = classes({"names": "a,b,c", "labels": "v,w,x,y,z", "character": "z\ny\nx\nw\nv"})
    assert found == tuple("vwxyz")
    assert "'names' names 3 classes for 5 outputs and is not used" in reason
    assert "'character' says otherwise and is not used" in reason
    found, reason = classes({"names": "crane,b,crane,d,e"})
    assert found == ("crane", "b", "crane", "d", "e")
    assert "several classes are called 'crane'" in reason
    assert classes({})[1] == "nothing in the file names them: numbers"


def named(files: dict[str, str], metadata: dict[str, str] | None = None, given: bool = False, **said: object):
    found = [CompanionFile(name, text.encode("utf-8-sig"), given) for name, text in files.items()]
    model = ModelSettings.model_validate({"name": "m", **said})
    manifest = adopt(zoo.dense((64,), metadata=metadata), model, companions=found).manifest
    return manifest.classes, manifest.adoption.choices["classes"]  # type: ignore[union-attr]


LINES = "v\nw\nx\ny\nz\n"


def test_a_file_beside_the_model_names_what_the_file_itself_does_not() -> None:
    found, choice = named({"labels.txt": LINES})
    assert (found, choice.given) == (tuple("vwxyz"), False)
    assert choice.reason == "the file 'labels.txt' beside it, in the order of its lines"
    found, choice = named({"labels.txt": LINES}, {"names": "a,b,c,d,e"})
    assert found == tuple("abcde")
    assert "'labels.txt' beside it says otherwise and is not used" in choice.reason
    assert named({"labels.txt": LINES}, classes=("1", "2", "3", "4", "5"))[0] == tuple("12345")


def test_a_file_beside_the_model_that_does_not_fit_is_told_and_not_used() -> None:
    found, choice = named({"labels.txt": "background\n" + LINES, "config.json": '{"hidden_size": 5}'})
    assert found == tuple("01234")
    assert choice.reason.endswith("'labels.txt' beside it names 6 classes for 5 outputs, not used")
    assert "config.json" not in choice.reason
    placeholders = json.dumps({"id2label": {str(i): f"LABEL_{i}" for i in range(5)}})
    assert named({"config.json": placeholders})[0] == tuple("01234")
    assert named({"labels.txt": "v\nw\nx\ny\n" + "z" * 201})[0] == tuple("01234")


def test_a_file_that_its_owner_gives_must_fit() -> None:
    found, choice = named({"anything.json": '{"4": "z", "0": "v", "1": "w", "2": "x", "3": "y"}'}, given=True)
    assert (found, choice.given, choice.reason) == (
        tuple("vwxyz"),
        True,
        "declared; the file 'anything.json', by its keys",
    )
    for text, message in (
        ("cat\ndog", "2 names for the 5"),
        ("", "0 names"),
        ("v\nw\nx\ny\n" + "z" * 201, "longer than 200"),
    ):
        with pytest.raises(InvalidInput, match=message) as caught:
            named({"names.txt": text}, given=True)
        assert caught.value.field == "classes"
    with pytest.raises(InvalidInput, match="named twice"):
        named({"names.txt": LINES}, given=True, classes=("1", "2", "3", "4", "5"))


def test_a_zip_brings_its_names_along() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder/model.onnx", zoo.dense((64,)))
        archive.writestr("folder/classes.txt", LINES)
    manifest = adopt(buffer.getvalue(), ModelSettings(name="m")).manifest
    assert manifest.classes == tuple("vwxyz")


def test_files_beside_a_model_are_found_by_their_usual_names(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "labels.txt").symlink_to(tmp_path / "config.json")
    (tmp_path / "classes.txt").mkdir()
    (tmp_path / "other.txt").write_text(LINES)
    found = companion_files.in_folder(tmp_path / "model.onnx", COMPANIONS)
    assert [file.name for file in found] == ["labels.txt", "config.json"]
    assert not any(file.given for file in found)
