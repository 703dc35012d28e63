"""From somebody's own model and images to a report."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gauntlet import python_api
from gauntlet.errors import ArtefactError, InvalidInput
from gauntlet.report.schema import Report
from tests import tiny, zoo

ASKED = {"attacks": ("ddn",), "threats": [{"norm": "l2", "eps": [0.2]}]}


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(12, *tiny.SHAPE, generator=draw), torch.randint(0, 3, (12,), generator=draw)


def test_an_onnx_file_alone_is_enough_for_a_report(tmp_path, pictures):
    source = tiny.linear(tmp_path / "anything") / "model.onnx"
    model = python_api.open_classifier(source)
    assert (model.name, model.manifest.classes, model.manifest.input_shape) == ("model", ("0", "1", "2"), tiny.SHAPE)
    assert model.certificate.lipschitz is not None
    made = python_api.robustness_report([model], *pictures, **ASKED)
    paths = tmp_path / "report.html", tmp_path / "report.json"
    python_api.write_report(made, *paths)
    assert paths[0].read_text().startswith("<!doctype html>")
    assert Report.model_validate_json(paths[1].read_bytes()) == made
    assert made.request.n == 12
    assert json.loads(paths[1].read_text())["models"][0]["family"] == "custom"


def test_a_file_that_leaves_its_size_open_is_opened_for_the_images(tmp_path, pictures):
    (tmp_path / "open.onnx").write_bytes(zoo.dense_open())
    images = pictures[0].permute(0, 2, 3, 1).numpy()
    made = python_api.robustness_report([tmp_path / "open.onnx"], images, pictures[1], **ASKED)
    assert made.models[0].clean.n == 12
    with pytest.raises(InvalidInput, match="declare input_shape"):
        python_api.open_classifier(tmp_path / "open.onnx")


def test_a_torch_module_is_the_same_model(pictures):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    model = python_api.open_classifier(module, example=pictures[0][:2], classes=("a", "b", "c"))
    assert model.name == "sequential"
    with torch.no_grad():
        assert torch.allclose(model.predict(pictures[0]), module(pictures[0]), atol=1e-5)


def test_float_and_uint8_images_are_the_same_images(tmp_path, pictures):
    model = python_api.open_classifier(tiny.linear(tmp_path / "m") / "model.onnx")
    images, labels = pictures
    as_bytes = (images * 255).round().byte().numpy()
    first, second = (
        python_api.robustness_report([model], x, labels.tolist(), **ASKED) for x in (images.numpy(), as_bytes)
    )
    assert first.evalset == second.evalset
    assert first.models[0].robustness == second.models[0].robustness


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 3, 3)])
def test_images_may_have_their_channels_last_or_none(shape):
    images = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    assert (python_api._by_channel(images, shape) == images).all()
    if shape != (3, 3, 3):
        assert (python_api._by_channel(images.transpose(0, 2, 3, 1), shape) == images).all()
    if shape[0] == 1:
        assert (python_api._by_channel(images[:, 0], shape) == images).all()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"images": np.full((12, 1, 8, 8), 1.5)}, "images"),
        ({"images": np.full((12, 1, 8, 8), np.nan)}, "images"),
        ({"images": np.zeros((11, 1, 8, 8))}, "images"),
        ({"labels": [3] * 12}, "labels"),
        ({"attacks": ["nonesuch"]}, "attacks.0"),
        ({"images": np.zeros((12, 1, 9, 9))}, "models.0"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, pictures, change, field):
    model = python_api.open_classifier(tiny.linear(tmp_path / "m") / "model.onnx")
    with pytest.raises(InvalidInput) as caught:
        python_api.robustness_report([model], **{"images": pictures[0], "labels": pictures[1], **ASKED, **change})
    assert caught.value.field == field


def test_a_file_of_any_layout_is_taken_and_says_what_it_lacks(tmp_path):
    (tmp_path / "last.onnx").write_bytes(zoo.dense((8, 8, 1), last="Softmax"))
    model = python_api.open_classifier(tmp_path / "last.onnx", pixel_range="0..255")
    assert (model.manifest.input_shape, model.manifest.gradients) == ((1, 8, 8), "verified")
    assert model.manifest.adoption.choices["pixel_range"].given
    (tmp_path / "trees.onnx").write_bytes(zoo.trees())
    assert python_api.open_classifier(tmp_path / "trees.onnx").manifest.gradients.startswith("none (")
    with pytest.raises(InvalidInput) as caught:
        python_api.open_classifier(tmp_path / "last.onnx", layout="sideways")
    assert caught.value.field == "layout"


def test_what_is_no_classifier_is_refused(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(InvalidInput, match="not an ONNX file"):
        python_api.open_classifier(broken)
    with pytest.raises(InvalidInput, match="a classifier with a row"):
        python_api.open_classifier(tiny.generator(tmp_path / "gen") / "model.onnx")
    with pytest.raises(InvalidInput, match="2 names for the 3"):
        python_api.open_classifier(tiny.linear(tmp_path / "m") / "model.onnx", classes=("a", "b"))
    with pytest.raises(InvalidInput, match="example"):
        python_api.open_classifier(nn.Flatten())
    with pytest.raises((ArtefactError, OSError)):
        python_api.open_classifier(Path(tmp_path / "none.onnx"))


def test_three_lines_are_enough(tmp_path, pictures):
    """As the docstring of the package has them; importing the package alone brings no torch."""
    import gauntlet  # noqa: PLC0415

    model = gauntlet.open_classifier(tiny.linear(tmp_path / "m") / "model.onnx")
    gauntlet.write_report(gauntlet.robustness_report([model], *pictures, **ASKED), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    command = [sys.executable, "-c", "import gauntlet, sys; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(command, check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'classify'"):
        gauntlet.classify  # noqa: B018
