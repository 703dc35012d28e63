"""Weights stored as float16: the prover, the twin and ONNX Runtime see the same numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gauntlet.artifacts import onnx_file
from gauntlet.certify import lipschitz
from tests import tiny
from tests.gauntlet.conftest import opened


def halved(folder):
    """The model with its largest weights as float16 and a Cast, as training/ exports them."""
    model = onnx.load(folder / "model.onnx")
    for tensor in list(model.graph.initializer):
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim > 1:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}.half"))
            model.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    onnx.save(model, folder / "model.onnx")
    return tiny.save_manifest(folder, kind="classifier", input_shape=tiny.SHAPE, classes=tiny.CLASSES)


def test_casts_of_weights_are_folded(tmp_path):
    folder = halved(tiny.convolutional(tmp_path / "half"))
    read = onnx_file.read(folder / "model.onnx")
    onnx.checker.check_model(read)
    assert "Cast" not in {node.op_type for node in read.graph.node}
    stored = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(folder / "model.onnx").graph.initializer
    }
    for tensor in read.graph.initializer:
        if f"{tensor.name}.half" in stored:
            assert np.array_equal(numpy_helper.to_array(tensor), stored[f"{tensor.name}.half"].astype(np.float32))


def test_a_model_with_small_weights_is_opened_and_certified(tmp_path, images):
    whole = lipschitz.prove(tiny.convolutional(tmp_path / "whole") / "model.onnx")
    model = opened(halved(tiny.convolutional(tmp_path / "half")))  # parity and gradients are checked on the way
    assert model.certificate.lipschitz == pytest.approx(whole.lipschitz, rel=2e-3)
    assert model.certificate.lipschitz != whole.lipschitz
    assert (model.certificate.radius(model.predict(images)) > 0).any()


def test_a_cast_of_the_image_stays(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["full"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["full"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"]),
    ]
    path = tiny.save_graph(tmp_path / "model.onnx", nodes, {"w": np.ones((64, 3), np.float32)}, tiny.SHAPE, (3,))
    assert [node.op_type for node in onnx_file.read(path).graph.node] == ["Cast", "Cast", "Flatten", "Gemm"]
    assert lipschitz.prove(path).lipschitz is None


def test_maxmin_is_the_same_function_with_a_cheaper_gradient(tmp_path, images):
    path = tiny.convolutional(tmp_path / "model") / "model.onnx"
    cheap = onnx_file.with_cheap_gradients(onnx_file.read(path))
    onnx.checker.check_model(cheap)
    operators = [node.op_type for node in cheap.graph.node]
    assert "Max" not in operators
    assert operators.count("Relu") == 1  # the pair shares it
    before, after = (
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": images.numpy()}
        )[0]
        for model in (onnx_file.read(path), cheap)
    )
    np.testing.assert_allclose(before, after, atol=1e-6)
