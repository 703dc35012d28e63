"""A folder is served only if it is, byte for byte, what its manifest says."""

import json

import pytest

from gauntlet.artifacts import artefact_folders
from gauntlet.errors import ArtefactError
from tests import tiny


@pytest.fixture
def folder(tmp_path):
    return tiny.linear(tmp_path / "model")


def edit(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_loads_what_is_whole(folder):
    artefact = artefact_folders.load(folder)
    assert artefact.manifest.name == "model"
    assert artefact_folders.load_all(folder.parent).keys() == {"model"}


def test_one_flipped_byte_is_refused(folder):
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"model\.onnx.*sha256"):
        artefact_folders.load(folder)


def test_a_missing_file_is_named(folder):
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"model\.onnx.*missing"):
        artefact_folders.load(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input_shape": [1, 8, 9]}, "input"),
        ({"classes": ["a", "b"]}, "output"),
        ({"colour": "red"}, "colour"),
        ({"schema_version": 2}, "schema_version"),
        ({"kind": "oracle"}, "kind"),
        ({"name": "other"}, "other"),
        ({"files": {"../model.onnx": "0" * 64, "model.onnx": "0" * 64}}, "not a file of this folder"),
        ({"files": {}}, "model.onnx"),
    ],
)
def test_a_wrong_manifest_is_refused(folder, fields, words):
    edit(folder, **fields)
    with pytest.raises(ArtefactError, match=words):
        artefact_folders.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_broken_manifest_is_refused(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        artefact_folders.load(folder)


def test_not_an_onnx_file(folder):
    (folder / "model.onnx").write_bytes(b"\xff" * 100)
    tiny_files = {"model.onnx": artefact_folders.sha256_of(folder / "model.onnx")}
    edit(folder, files=tiny_files)
    with pytest.raises(ArtefactError, match=r"model\.onnx"):
        artefact_folders.load(folder)


def test_an_empty_root_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no model folder"):
        artefact_folders.load_all(tmp_path)
