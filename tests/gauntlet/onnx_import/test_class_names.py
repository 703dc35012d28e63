"""Class names in the dialects in which they lie in a model's metadata."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.onnx_import import class_names
from gauntlet.onnx_import.conversion import adopt
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
