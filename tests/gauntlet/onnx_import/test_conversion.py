"""Somebody's own file becomes an artefact that answers as the file does, or is refused with the reason."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from gauntlet.artifacts import artefact_folders
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import validation
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests import hostile as files
from tests import zoo

ANIMALS = zoo.by_hand()


def ask(data: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def pictures(shape: tuple[int, ...], n: int = 3) -> np.ndarray:
    return (np.random.default_rng(1).integers(0, 256, (n, *shape)) / 255).astype(np.float32)


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ANIMALS)
def test_every_kind_is_taken_and_answers_a_batch(name, tmp_path):
    animal = ANIMALS[name]()
    adopted = adopt(animal.data, ModelSettings(name=name, **animal.says))
    folder = tmp_path / name
    folder.mkdir()
    (folder / "model.onnx").write_bytes(adopted.graph)
    (folder / "manifest.json").write_text(adopted.manifest.model_dump_json())
    manifest = artefact_folders.load(folder).manifest
    assert manifest == adopted.manifest
    if name != "cnn-fixed-4":
        logits = ask(adopted.graph, pictures(manifest.input_shape))
        assert logits.shape == (3, len(manifest.classes))
        assert np.isfinite(logits).all()


def test_pixels_are_in_zero_to_one_whatever_the_file_wants():
    x = pictures((3, 8, 8))
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]))
    animal = ANIMALS["mlp-normalised"]()
    logits = ask(adopt(animal.data, ModelSettings(name="m", **animal.says)).graph, x)
    assert np.allclose(logits, ask(animal.data, (x - mean) / std), atol=1e-4)
    data = ANIMALS["mlp-uint8"]().data
    logits = ask(adopt(data, ModelSettings(name="m")).graph, x)
    assert np.allclose(logits, ask(data, np.rint(255 * x.transpose(0, 2, 3, 1)).astype(np.uint8)), atol=1e-4)
    data = zoo.dense((1, 8, 8))
    logits = ask(adopt(data, ModelSettings(name="m", pixel_range="-1..1")).graph, x[:, :1])
    assert np.allclose(logits, ask(data, 2 * x[:, :1] - 1), atol=1e-4)


def test_a_row_of_colours_goes_by_channel_unless_said_otherwise():
    data, x = zoo.dense((3072,)), pictures((3, 32, 32))
    rows = adopt(data, ModelSettings(name="m")), adopt(data, ModelSettings(name="m", layout="flat-nhwc"))
    assert np.allclose(ask(rows[0].graph, x), ask(data, x.reshape(3, -1)), atol=1e-4)
    assert np.allclose(ask(rows[1].graph, x), ask(data, x.transpose(0, 2, 3, 1).reshape(3, -1)), atol=1e-4)


@pytest.mark.parametrize(("last", "back"), [("Softmax", softmax), ("LogSoftmax", lambda z: np.log(softmax(z)))])
def test_attacks_see_logits_and_the_answer_stays(last, back):
    data, x = zoo.dense((1, 8, 8), last=last), pictures((1, 8, 8))
    adopted = adopt(data, ModelSettings(name="m"))
    assert {"Softmax", "LogSoftmax"}.isdisjoint(
        node.op_type for node in onnx.load_from_string(adopted.graph).graph.node
    )
    assert np.allclose(back(ask(adopted.graph, x)), ask(data, x), atol=1e-4)


def test_probabilities_that_no_softmax_made_become_their_logarithms():
    data, x = zoo.trees(), pictures((1, 8, 8), 8)
    adopted = adopt(data, ModelSettings(name="m"))
    assert adopted.manifest.classes == ("high", "low", "middle")
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    given = session.run(["y"], {"x": x.reshape(8, -1)})[0]
    assert len(set(given.argmax(axis=1))) > 1
    assert np.allclose(softmax(ask(adopted.graph, x)), given, atol=1e-4)


@pytest.mark.parametrize("name", ["cnn-fixed-1", "cnn-fixed-4"])
def test_a_fixed_batch_is_opened(name):
    data = ANIMALS[name]().data
    adopted = adopt(data, ModelSettings(name="m"))
    assert onnx.load_from_string(adopted.graph).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert ask(adopted.graph, pictures((1, 16, 16), 7)).shape == (7, 5)


def test_guesses_are_told_from_what_was_said():
    adopted = adopt(zoo.dense((8, 8, 1), divide=255.0), ModelSettings(name="m", output="logits"))
    assert adopted.manifest.adoption is not None
    choices = adopted.manifest.adoption.choices
    assert (choices["layout"].value, choices["layout"].given) == ("nhwc", False)
    assert choices["pixel_range"].value == "0..255"
    assert "Div of 255" in choices["pixel_range"].reason
    assert choices["output"].given


def test_names_of_classes_come_from_the_file_or_from_its_owner():
    data = zoo.dense((64,), metadata={"class_names": '["a", "b", "c", "d", "e"]'})
    assert adopt(data, ModelSettings(name="m")).manifest.classes == ("a", "b", "c", "d", "e")
    assert adopt(data, ModelSettings(name="m", classes=tuple("vwxyz"))).manifest.classes == tuple("vwxyz")
    assert adopt(zoo.dense((64,)), ModelSettings(name="m")).manifest.classes == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("data", "says", "field"),
    [
        (zoo.dense_open(), {}, "input_shape"),
        (zoo.dense((65,)), {}, "input_shape"),
        (zoo.dense((64,)), {"input_shape": (1, 9, 9)}, "input_shape"),
        (zoo.dense((2, 8, 8)), {}, "input_shape"),
        (zoo.dense((64,)), {"classes": ("a", "b")}, "classes"),
        (zoo.dense((3, 8, 8)), {"mean": (0.5, 0.5)}, "mean"),
    ],
)
def test_what_cannot_be_known_or_does_not_fit_is_said_by_field(data, says, field):
    with pytest.raises(InvalidInput) as caught:
        adopt(data, ModelSettings(name="m", **says))
    assert caught.value.field == field


FAMILIES = [family for family in files.FAMILIES if family not in ("expanding", "slow")]  # these meet the child's limits


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_files_are_refused_with_a_reason(family):
    for data in files.FAMILIES[family]():
        with pytest.raises(InvalidInput) as caught:
            adopt(data, ModelSettings(name="m"))
        assert caught.value.field in ("file", "input_shape")
        assert len(str(caught.value)) < 600


def test_what_is_refused_without_being_run(monkeypatch: pytest.MonkeyPatch):
    for data in list(files.expanding())[:3]:
        with pytest.raises(InvalidInput, match="would hold"):
            validation.read(data)
    monkeypatch.setattr(validation, "MAX_BYTES", 100)
    with pytest.raises(InvalidInput, match="101 bytes"):
        validation.read(bytes(101))


def test_a_loop_is_found_wherever_it_hides():
    model = onnx.load_from_string(zoo.dense((1, 8, 8)))
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("surprise", inner))
    with pytest.raises(InvalidInput, match="graph of its own"):
        validation.read(model.SerializeToString())


def test_nothing_here_needs_torch():
    sources = Path(validation.__file__).parent.glob("*.py")
    assert not [path for path in sources if "import torch" in path.read_text()]
