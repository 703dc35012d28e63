"""Versions, types, open sizes and several outputs of files as people have them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gauntlet.artifacts import onnx_skeleton
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import validation
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests import zoo
from tests.gauntlet.onnx_import.test_conversion import ask, pictures
from tests.gauntlet.onnx_import.test_pixel_detection import network

SHAPE = (3, 8, 8)


def edited(*outputs: onnx.ValueInfoProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> bytes:
    model = onnx.load_from_string(network())
    model.graph.node.extend(nodes)
    model.graph.output.extend(outputs)
    return model.SerializeToString()


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.mark.parametrize("opset", [validation.OPSETS.start, 8, 12, 23, 24, validation.OPSETS.stop - 1])
def test_every_opset_is_taken_and_answers_the_same(opset: int):
    model = onnx.load_from_string(network())
    model.opset_import[0].version = opset
    made = adopt(model.SerializeToString(), ModelSettings(name="m"))
    x = pictures(SHAPE)
    assert np.allclose(ask(made.graph, x), ask(network(), x), atol=1e-4)


@pytest.mark.parametrize("size", [-1, 0])
def test_a_size_that_is_no_number_is_one_that_is_left_open(size: int):
    model = onnx.load_from_string(network())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    assert ask(adopt(model.SerializeToString(), ModelSettings(name="m")).graph, pictures(SHAPE)).shape == (3, 10)


def test_a_size_that_the_graph_leaves_open_is_that_of_the_images():
    model = onnx.load_from_string(network())
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()
    with pytest.raises(InvalidInput, match=r"leaves the size of its images open \(\(batch, \?, \?, \?\)\)"):
        adopt(model.SerializeToString(), ModelSettings(name="m"))
    manifest = adopt(model.SerializeToString(), ModelSettings(name="m"), images=SHAPE).manifest
    assert manifest.input_shape == SHAPE
    assert manifest.adoption is not None
    choice = manifest.adoption.choices["input_shape"]
    reason = "the graph's input is (batch, ?, ?, ?), and the images are of this size"
    assert (choice.value, choice.given, choice.reason) == ("3x8x8", False, reason)
    assert adopt(network(), ModelSettings(name="m"), images=(3, 9, 9)).manifest.input_shape == SHAPE


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_what_onnx_runtime_has_no_operators_for_is_computed_in_float32(kind: int):
    model, dtype = onnx.load_from_string(network()), helper.tensor_dtype_to_np_dtype(kind)
    model.opset_import[0].version = 22
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    for tensor in model.graph.initializer:
        wide = onnx.numpy_helper.to_array(tensor).astype(dtype)
        tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    made = adopt(model.SerializeToString(), ModelSettings(name="m"))
    assert made.manifest.adoption is not None
    assert "no operators" in made.manifest.adoption.choices["precision"].reason
    x = pictures(SHAPE)
    assert np.allclose(ask(made.graph, x), ask(network(), x), rtol=0.05, atol=0.05)


def test_of_several_outputs_the_last_that_all_others_lead_to_answers():
    probabilities = helper.make_node("Softmax", ["y"], ["s"], axis=1)
    data = edited(floats("f", "batch", 4), floats("s", "batch", 10), nodes=(probabilities,))
    made = adopt(data, ModelSettings(name="m"))
    assert made.manifest.adoption is not None
    assert made.manifest.adoption.choices["output_name"].value == "s"
    assert not made.manifest.adoption.choices["output_name"].given
    x = pictures(SHAPE)
    assert np.allclose(ask(made.graph, x), ask(network(), x), atol=1e-4)


def test_where_none_leads_to_the_other_its_owner_says_which():
    other = helper.make_node("Neg", ["y"], ["z"])
    more = helper.make_node("Abs", ["y"], ["q"])
    data = edited(floats("z", "batch", 10), floats("q", "batch", 10), nodes=(other, more))
    with pytest.raises(InvalidInput, match=r"y, z, q.*output_name") as caught:
        adopt(data, ModelSettings(name="m"))
    assert caught.value.field == "output_name"
    x = pictures(SHAPE)
    made = adopt(data, ModelSettings(name="m", output_name="z"))
    assert np.allclose(ask(made.graph, x), -ask(network(), x), atol=1e-4)
    with pytest.raises(InvalidInput, match="no output of this name"):
        adopt(data, ModelSettings(name="m", output_name="nowhere"))


def test_what_is_computed_from_weights_may_not_be_larger_than_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validation, "MAX_VALUES", 100)
    bytes_ = {"w": np.ones((64, 5), np.int8), "scale": np.float32(0.01), "times": np.asarray([1, 9])}
    tiled = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["floats"]),
        helper.make_node("Tile", ["floats", "times"], ["wide"]),
        helper.make_node("MatMul", ["x", "wide"], ["y"]),
    ]
    with pytest.raises(InvalidInput, match="the tensor wide would hold"):
        validation.read(zoo.build(tiled, bytes_, ["n", 64], ["n", 45]))


def test_weights_may_be_larger_than_what_is_computed(monkeypatch: pytest.MonkeyPatch):
    """The bytes of the file bound them."""
    monkeypatch.setattr(validation, "MAX_VALUES", 100)
    monkeypatch.setattr(onnx_skeleton, "LARGE", 1)
    data = zoo.dense((1, 8, 8))
    model = onnx.load_from_string(data)
    assert max(np.prod(tensor.dims) for tensor in model.graph.initializer) > 100
    assert adopt(data, ModelSettings(name="dense")) is not None
    bytes_ = {"w": np.ones((64, 5), np.int8), "scale": np.float32(0.01)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["floats"]),
        helper.make_node("MatMul", ["x", "floats"], ["y"]),
    ]
    assert validation.read(zoo.build(nodes, bytes_, ["n", 64], ["n", 5])) is not None
    turned = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["floats"]),
        helper.make_node("Transpose", ["floats"], ["rows"], perm=[1, 0]),
        helper.make_node("Gemm", ["x", "rows"], ["y"], transB=1),
    ]
    assert validation.read(zoo.build(turned, bytes_, ["n", 64], ["n", 5])) is not None
    monkeypatch.setattr(validation, "MAX_VALUES", 63)
    with pytest.raises(InvalidInput, match="the tensor x would hold"):
        adopt(data, ModelSettings(name="dense"))
