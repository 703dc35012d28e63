"""Files of Hugging Face and timm that say how pixels are prepared: read, fitted to the graph, used as a guess."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from gauntlet import python_api
from gauntlet.cli import user_files
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import preprocessing_files
from gauntlet.onnx_import.companion_files import CompanionFile
from gauntlet.onnx_import.conversion import Adopted, adopt
from gauntlet.onnx_import.preprocessing import affine
from gauntlet.onnx_import.settings import ModelSettings
from tests.gauntlet.onnx_import.test_conversion import ask, pictures
from tests.gauntlet.onnx_import.test_pixel_detection import choices, network

MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
CLIP = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 8}}


def as_file(content: object, name: str = "preprocessor_config.json") -> CompanionFile:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return CompanionFile(name, text, given=False)


def opened(content: object, data: bytes | None = None, name: str = "preprocessor_config.json", **said) -> Adopted:
    settings = ModelSettings.model_validate({"name": "m", **said})
    return adopt(data or network(), settings, companions=[as_file(content, name)])


def normalised(x: np.ndarray, mean: list[float] = MEAN, std: list[float] = STD) -> np.ndarray:
    return ((x - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))).astype(np.float32)


@pytest.mark.parametrize(
    ("config", "wanted"),  # what the graph gets of pixels p in 0..255
    [
        (CLIP, lambda p: (p / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))),
        ({**CLIP, "do_rescale": False}, lambda p: (p - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))),
        ({**CLIP, "do_normalize": False}, lambda p: p / 255),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, lambda p: p / 127.5 - 1),
        ({"image_mean": 0.5, "image_std": [0.5], "rescale_factor": 1 / 510}, lambda p: (p / 510 - 0.5) / 0.5),
        ({"do_normalize": False, "rescale_factor": 1 / 255, "do_flip_channel_order": True}, lambda p: p[:, ::-1] / 255),
        (
            {**CLIP, "do_flip_channel_order": True},
            lambda p: ((p / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)))[:, ::-1],
        ),
        (
            {**CLIP, "include_top": True},
            lambda p: (p / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)) ** 2,
        ),
    ],
)
def test_the_graph_gets_what_the_image_processor_would_give_it(config: dict, wanted) -> None:
    data, x = network(), pictures((3, 8, 8))
    made = opened(config, data)
    assert np.allclose(ask(made.graph, x), ask(data, wanted(255 * x).astype(np.float32)), rtol=1e-3, atol=1e-4)
    choice = made.manifest.adoption.choices["normalisation"]  # type: ignore[union-attr]
    assert (choice.given, choice.reason) == (False, "the file 'preprocessor_config.json' beside it")


def test_the_config_of_timm_is_read_after_that_of_transformers() -> None:
    config = {"architecture": "resnet18", "pretrained_cfg": {"mean": MEAN, "std": STD, "input_size": [3, 8, 8]}}
    data, x = network(), pictures((3, 8, 8))
    assert np.allclose(
        ask(opened(config, data, "config.json").graph, x), ask(data, normalised(x)), rtol=1e-3, atol=1e-4
    )
    both = [as_file(config, "config.json"), as_file({**CLIP, "image_mean": [0, 0, 0]})]
    made = adopt(data, ModelSettings(name="m"), companions=both)
    assert np.allclose(ask(made.graph, x), ask(data, normalised(x, [0, 0, 0])), rtol=1e-3, atol=1e-4)
    assert choices(opened({"id2label": {"0": "cat"}}, name="config.json"))["normalisation"] == ("none", False)


@pytest.mark.parametrize(
    ("config", "sides"),
    [
        ({**CLIP, "size": {"height": 12, "width": 10}}, (12, 10)),
        ({**CLIP, "size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": 8}, (8, 8)),
        ({**CLIP, "size": [9, 8]}, (9, 8)),
    ],
)
def test_it_says_the_size_that_a_graph_leaves_open(config: dict, sides: tuple[int, int]) -> None:
    model = onnx.load_from_string(network())
    for place in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_param = "side"
    data = model.SerializeToString()
    made = opened(config, data)
    assert made.manifest.input_shape == (3, *sides)
    assert "beside it says this size" in made.manifest.adoption.choices["input_shape"].reason  # type: ignore[union-attr]
    shown = adopt(data, ModelSettings(name="m"), companions=[as_file(config)], images=(3, 16, 16))
    assert shown.manifest.input_shape == (3, 16, 16)


def test_what_was_declared_comes_first_and_a_graph_that_prepares_pixels_itself_too() -> None:
    assert choices(opened(CLIP, mean=(0.1,)))["normalisation"][0] == "mean (0.1,), std None"
    mean = np.full((1, 3, 1, 1), 0.3, np.float32)
    made = opened(CLIP, network(helper.make_node("Sub", ["x", "m"], ["p"]), m=mean))
    choice = made.manifest.adoption.choices["normalisation"]  # type: ignore[union-attr]
    assert choice.value == "none"
    assert "'preprocessor_config.json' beside it is not used: the graph begins with Sub" in choice.reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"do_normalize": True, "rescale_factor": 0.1}, "does not say image_mean"),
        ({**CLIP, "image_std": [1, 0, 1]}, "image_std: "),
        ({**CLIP, "image_mean": [float("nan")] * 3}, "image_mean: "),
        ({**CLIP, "image_mean": [0.1, 0.2]}, "mean has 2 numbers for images of 3 channels"),
        ({**CLIP, "rescale_factor": -1}, "rescale_factor: "),
        ({**CLIP, "image_std": [1e-38] * 3}, "image_std: "),
        ({**CLIP, "size": "large"}, "size: "),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_a_declared_one_refused(config: dict, reason: str, tmp_path) -> None:
    choice = opened(config).manifest.adoption.choices["normalisation"]  # type: ignore[union-attr]
    assert choice.value == "none"
    assert reason in choice.reason
    (tmp_path / "model.onnx").write_bytes(network())
    (tmp_path / "p.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match=reason):
        python_api.open_classifier(tmp_path / "model.onnx", preprocessing=tmp_path / "p.json")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 5000, b"[]", b"{}", b'{"pretrained_cfg": 3}', b'{"x":1'])
def test_a_file_that_says_nothing_of_pixels_is_none(content: bytes) -> None:
    assert preprocessing_files.read(as_file(content)) is None
    with pytest.raises(InvalidInput, match="says nothing of pixels") as caught:
        preprocessing_files.declared_in(as_file(content), ModelSettings(name="m"))
    assert caught.value.field == "preprocessing"


def test_a_declared_file_is_as_if_its_fields_were_declared(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(network())
    (tmp_path / "any.json").write_text(json.dumps(CLIP))
    said = user_files.declared([f"preprocessing=@{tmp_path / 'any.json'}"])
    model = python_api.open_classifier(tmp_path / "model.onnx", **said)
    adoption = model.manifest.adoption
    assert adoption is not None
    assert adoption.choices["normalisation"].given
    scale, offset = affine("0..1", tuple(MEAN), tuple(STD), 3)
    assert np.allclose(adoption.scale, scale)
    assert np.allclose(adoption.offset, offset)
    with pytest.raises(InvalidInput, match=r"declared twice, in 'any\.json' and as mean"):
        python_api.open_classifier(tmp_path / "model.onnx", mean=(0.1,), **said)
    with pytest.raises(InvalidInput, match="cannot be read"):
        python_api.open_classifier(tmp_path / "model.onnx", preprocessing=tmp_path / "none.json")


def test_it_is_found_in_the_folder_and_in_a_zip(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(network())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP))
    beside = python_api.open_classifier(tmp_path / "model.onnx").manifest.adoption
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in tmp_path.iterdir():
            archive.write(path, f"folder/{path.name}")
    zipped = adopt(buffer.getvalue(), ModelSettings(name="m")).manifest.adoption
    assert beside is not None
    assert zipped is not None
    assert beside.scale == zipped.scale == pytest.approx([1 / value for value in STD])
