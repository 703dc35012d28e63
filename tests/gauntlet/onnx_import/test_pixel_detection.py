"""What a model wants its pixels to be: said, or guessed where the graph gives evidence, and shown as a guess."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.conversion import Adopted, adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests.gauntlet.onnx_import.test_conversion import ask, pictures

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CAFFE = np.array([103.939, 116.779, 123.68], np.float32).reshape(1, 3, 1, 1)


def network(*first: onnx.NodeProto, side: int = 8, classes: int = 10, **weights: np.ndarray) -> bytes:
    """Colours (batch, 3, side, side) called x, ``first`` from x to p, a convolution, an average, logits."""
    draw = np.random.default_rng(0)
    tensors = {"w": draw.normal(size=(4, 3, 3, 3)), "h": draw.normal(size=(4, classes)), **weights}
    nodes = [
        *(first or [helper.make_node("Identity", ["x"], ["p"])]),
        helper.make_node("Conv", ["p", "w"], ["c"], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def taken(data: bytes, **said: object) -> Adopted:
    return adopt(data, ModelSettings.model_validate({"name": "m", **said}))


def choices(adopted: Adopted) -> dict[str, tuple[str, bool]]:
    assert adopted.manifest.adoption is not None
    return {what: (choice.value, choice.given) for what, choice in adopted.manifest.adoption.choices.items()}


def test_blue_first_is_said_and_means_are_in_that_order():
    data, x = network(), pictures((3, 8, 8))
    made = taken(data, channels="bgr", pixel_range="0..255", mean=(104.0, 117.0, 123.0))
    wanted = 255 * x[:, ::-1] - np.array([104, 117, 123], np.float32).reshape(3, 1, 1)
    assert np.allclose(ask(made.graph, x), ask(data, wanted), rtol=1e-4, atol=1e-3)
    assert choices(made)["channels"] == ("bgr", True)
    assert made.manifest.adoption.bgr


def test_grey_images_have_no_order_of_colours():
    grey = onnx.load_from_string(network(helper.make_node("Concat", ["x", "x", "x"], ["p"], axis=1)))
    grey.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    with pytest.raises(InvalidInput, match="grey"):
        taken(grey.SerializeToString(), channels="bgr")


@pytest.mark.parametrize(("means", "order"), [(CAFFE, "bgr"), (CAFFE[:, ::-1], "rgb")])
def test_the_means_of_caffe_tell_the_order_of_colours_and_the_range(means: np.ndarray, order: str):
    data, x = network(helper.make_node("Sub", ["x", "means"], ["p"]), means=means), pictures((3, 8, 8))
    made = taken(data)
    assert choices(made)["channels"] == (order, False)
    assert choices(made)["pixel_range"] == ("0..255", False)
    turned = x[:, ::-1] if order == "bgr" else x
    assert np.allclose(ask(made.graph, x), ask(data, 255 * turned), rtol=1e-4, atol=1e-3)


def test_a_network_of_imagenet_without_normalisation_gets_it_as_a_guess():
    data, x = network(side=160, classes=1000), pictures((3, 160, 160))
    made = taken(data)
    assert choices(made)["normalisation"][1] is False
    assert "0.485" in choices(made)["normalisation"][0]
    wanted = ((x - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)).astype(np.float32)
    assert np.allclose(ask(made.graph, x), ask(data, wanted), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "classes", "first", "said"),
    [
        (8, 1000, None, {}),
        (160, 10, None, {}),
        (160, 1000, "Sub", {}),
        (160, 1000, None, {"pixel_range": "0..1"}),
        (160, 1000, None, {"mean": (0.0,)}),
    ],
)
def test_it_does_not_where_the_evidence_is_weak_or_its_owner_says_otherwise(side, classes, first, said):
    nodes = [helper.make_node(first, ["x", "means"], ["p"])] if first else []
    value, given = choices(taken(network(*nodes, side=side, classes=classes, means=CAFFE / 255), **said))[
        "normalisation"
    ]
    assert "0.485" not in value
    assert given == ("mean" in said)
