"""Weights in a second file: taken where they lie beside the model, and from nowhere else."""

import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import external_data_helper

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import external_weights, validation
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests import cases, zoo

DATA = "torch_default.onnx.data"


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_two_parts_a_zip_and_a_folder_give_the_same_graph() -> None:
    model, data = cases.read("torch_default.onnx"), cases.read(DATA)
    ways = [
        adopt(model, ModelSettings(name="m"), external_weights.among({DATA: lambda: data})),
        adopt(model, ModelSettings(name="m"), external_weights.in_folder(cases.FOLDER, validation.MAX_BYTES)),
        adopt(
            zipped(**{"a/torch_default.onnx": model, f"a/{DATA}": data, "a/LICENSE": b"free"}), ModelSettings(name="m")
        ),
    ]
    assert len({way.graph for way in ways}) == 1
    x = np.random.default_rng(0).random((2, 1, 28, 28), dtype=np.float32)
    file = ort.InferenceSession(str(cases.FOLDER / "torch_default.onnx"))
    ours = ort.InferenceSession(ways[0].graph)
    assert np.allclose(file.run(None, {"input": x})[0], ours.run(None, {"gauntlet.image": x})[0], atol=1e-5)


def test_the_digest_is_of_all_that_came() -> None:
    model, data = cases.read("torch_default.onnx"), bytearray(cases.read(DATA))
    first = adopt(model, ModelSettings(name="m"), external_weights.among({DATA: lambda: bytes(data)}))
    data[3] ^= 1  # a bit of a weight
    second = adopt(model, ModelSettings(name="m"), external_weights.among({DATA: lambda: bytes(data)}))
    assert first.manifest.adoption != second.manifest.adoption


def elsewhere(**entries: str) -> bytes:
    """A model whose first weight lies in another file."""
    model = onnx.load_from_string(zoo.dense((1, 8, 8)))
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, entries.pop("location", "w"))
    tensor.ClearField("raw_data")
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


WEIGHTS = {"w": bytes(64 * 32 * 4)}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "/etc/passwd"}, "no path beside it"),
        ({"location": "../w"}, "no path beside it"),
        ({"location": "a/../../w"}, "no path beside it"),
        ({"location": "..\\w"}, "no path beside it"),
        ({"location": ""}, "no path beside it"),
        ({"location": "other"}, "'other': bring it along"),
        ({"offset": "4"}, "ends beyond the 8192 bytes"),
        ({"offset": "-4"}, "ends beyond"),
        ({"offset": "x"}, "not given in numbers"),
        ({"length": "4"}, "needs 8192 bytes"),
        ({"length": "-1"}, "needs 8192 bytes"),
        ({"length": str(2**70)}, "needs 8192 bytes"),
    ],
)
def test_places_that_do_not_fit_are_refused(entries: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        adopt(
            elsewhere(**entries),
            ModelSettings(name="m"),
            external_weights.among({name: partial(bytes, data) for name, data in WEIGHTS.items()}),
        )
    assert caught.value.field == "file"


def test_only_what_the_model_refers_to_is_read() -> None:
    asked: list[str] = []

    def beside(name: str) -> bytes | None:
        asked.append(name)
        return WEIGHTS.get(name)

    adopt(elsewhere(location="./w"), ModelSettings(name="m"), beside)
    assert asked == ["w"]


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHTS["w"])
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "w").symlink_to(tmp_path / "secret")
    beside = external_weights.in_folder(folder, 10_000)
    with pytest.raises(InvalidInput, match="outside the folder"):
        adopt(elsewhere(), ModelSettings(name="m"), beside)
    (folder / "w").unlink()
    (folder / "w").mkdir()
    assert beside("w") is None
    (folder / "large").write_bytes(bytes(10_001))
    with pytest.raises(InvalidInput, match="at most 10000"):
        beside("large")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.txt": b""}, "0 files"),
        ({"a.onnx": b"", "b.onnx": b""}, "2 files"),
        ({"a.onnx": b"no graph"}, "not an ONNX file"),
        ({"a/m.onnx": elsewhere(), "w": WEIGHTS["w"]}, "bring it along"),
    ],
)
def test_zips_that_hold_no_model(files: dict[str, bytes], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        adopt(zipped(**files), ModelSettings(name="m"))


def test_a_zip_that_grows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MAX_BYTES", 20_000)
    with pytest.raises(InvalidInput, match="at most 20000 are read"):
        adopt(zipped(**{"m.onnx": elsewhere(), "w": bytes(100_000)}), ModelSettings(name="m"))
    with pytest.raises(InvalidInput, match="not a readable zip"):
        adopt(external_weights.ZIP + b"nothing", ModelSettings(name="m"))
