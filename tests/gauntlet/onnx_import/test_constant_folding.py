"""Weights that a graph computes from weights: served as weights, with the same gradients and certificates."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import gauntlet
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime.classifier import Classifier

SIDE, CLASSES = 6, 4
PIXELS = SIDE * SIDE
DRAW = np.random.default_rng(0)
WEIGHT = DRAW.normal(size=(CLASSES, PIXELS)).astype(np.float32)


def node(operator: str, reads: str, makes: str, **attributes: object) -> NodeProto:
    return helper.make_node(operator, reads.split(), makes.split(), **attributes)


def linear(nodes: list[NodeProto], **constants: np.ndarray) -> bytes:
    """The logits are images times the tensor ``weight`` (CLASSES, PIXELS), which the nodes compute."""
    ending = [node("Flatten", "x", "flat"), node("Gemm", "flat weight", "logits", transB=1)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([*nodes, *ending], "net", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


ONE, AXIS = np.asarray([1], np.int64), np.asarray([0], np.int64)
NORMS = np.linalg.norm(WEIGHT, axis=1, keepdims=True)
COMPUTED = {
    "a weight normalisation": linear(
        [node("ReduceL2", "v axes", "norm", keepdims=1), node("Div", "g norm", "s"), node("Mul", "v s", "weight")],
        v=3 * WEIGHT,
        g=NORMS,
        axes=ONE,
    ),
    "a spectral normalisation": linear(
        [node("MatMul", "u v", "product"), node("MatMul", "product w", "sigma"), node("Div", "v sigma", "weight")],
        u=DRAW.normal(size=(1, CLASSES)).astype(np.float32),
        v=WEIGHT,
        w=DRAW.normal(size=(PIXELS, 1)).astype(np.float32),
    ),
    "a new order of rows": linear(
        [
            node("Split", "w", "first second", axis=0, num_outputs=2),
            node("Concat", "second first", "weight", axis=0),
        ],
        w=WEIGHT,
    ),
    "constants in nodes": linear(
        [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT.T)),
            node("Transpose", "w", "weight", perm=[1, 0]),
        ]
    ),
}


def open_(data: bytes, folder: Path) -> Classifier:
    path = folder / "net.onnx"
    path.write_bytes(data)
    return gauntlet.open_classifier(path, device="cpu")


@pytest.mark.parametrize("name", COMPUTED)
def test_it_has_gradients_and_the_certificate_of_a_plain_weight(name, tmp_path):
    model = open_(COMPUTED[name], tmp_path)
    assert model.manifest.gradients == "verified"
    served = onnx.load_from_string(adopt(COMPUTED[name], ModelSettings(name="net")).graph).graph
    (matrix,) = [t for t in map(numpy_helper.to_array, served.initializer) if t.size == WEIGHT.size]
    plain = open_(linear([], weight=np.ascontiguousarray(matrix.reshape(CLASSES, PIXELS))), tmp_path)
    assert model.certificate.lipschitz == pytest.approx(plain.certificate.lipschitz)


def test_a_small_file_does_not_become_a_large_one():
    """A value that takes much more memory than the weights stays a node."""
    data = linear(
        [
            node("ReduceMean", "x axes", "brightness", keepdims=1),  # (batch, 1, 1, 1)
            node("Expand", "zero shape", "large"),
            node("Mul", "brightness large", "product"),
            node("ReduceMax", "product axes", "nothing", keepdims=0),
            node("Add", "w zero", "weight"),
        ],
        axes=np.asarray([1, 2, 3], np.int64),
        zero=np.zeros(1, np.float32),
        shape=np.asarray([2**21], np.int64),
        w=WEIGHT,
    )
    model = onnx.load_from_string(data)
    model.graph.node[-1].output[0] = "product_of_all"
    model.graph.node.append(node("Unsqueeze", "nothing last", "column"))
    model.graph.node.append(node("Add", "product_of_all column", "logits"))
    model.graph.initializer.append(numpy_helper.from_array(ONE, "last"))
    assert len(adopt(model.SerializeToString(), ModelSettings(name="net")).graph) < 2**16
