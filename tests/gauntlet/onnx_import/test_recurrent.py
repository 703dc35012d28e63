"""Recurrent layers as exporters write them: with gradients, and for any number of images."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

import gauntlet
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings

SIDE, CLASSES, HIDDEN = 6, 4, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
DRAW = np.random.default_rng(0)


def node(operator: str, reads: str, makes: str, **attributes: object) -> NodeProto:
    return helper.make_node(operator, reads.split(), makes.split(), **attributes)


def recurrent(kind: str, state: float | None = None, activations: list[str] | None = None) -> bytes:
    """Rows of one image, one after the other; each initial state is filled with one number."""
    size = GATES[kind] * HIDDEN
    states = [] if state is None else ["", "", *["state"] * (2 if kind == "LSTM" else 1)]
    written = {} if activations is None else {"activations": activations}
    nodes = [
        node("Squeeze", "x channel", "rows"),
        node("Transpose", "rows", "steps", perm=[1, 0, 2]),
        helper.make_node(kind, ["steps", "w", "r", *states], ["", "last"], hidden_size=HIDDEN, **written),
        node("Squeeze", "last first", "hidden"),
        node("Gemm", "hidden head", "logits"),
    ]
    constants = {
        "channel": np.asarray([1]),
        "first": np.asarray([0]),
        "w": DRAW.normal(size=(1, size, SIDE)).astype(np.float32),
        "r": DRAW.normal(size=(1, size, HIDDEN)).astype(np.float32),
        "head": DRAW.normal(size=(HIDDEN, CLASSES)).astype(np.float32),
        "state": np.full((1, 1, HIDDEN), state or 0.0, np.float32),
    }
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, SIDE, SIDE])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def served(data: bytes) -> onnx.GraphProto:
    return onnx.load_from_string(adopt(data, ModelSettings(name="net")).graph).graph


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("RNN", {"state": 0.0}),
        ("LSTM", {"state": 0.0}),
        *((kind, {"activations": names}) for kind, names in DEFAULTS.items()),
    ],
)
def test_defaults_that_are_written_down_cost_no_gradients_and_no_batch(kind, written, tmp_path: Path):
    data = recurrent(kind, **written)
    (tmp_path / "net.onnx").write_bytes(data)
    assert gauntlet.open_classifier(tmp_path / "net.onnx", device="cpu").manifest.gradients == "verified"
    assert served(data).input[0].type.tensor_type.shape.dim[0].dim_param  # any number of images


def layer(graph: onnx.GraphProto, kind: str) -> NodeProto:
    (found,) = [node for node in graph.node if node.op_type == kind]
    return found


def test_other_states_and_activations_are_kept():
    assert list(layer(served(recurrent("LSTM", state=0.5)), "LSTM").input)[5:] == ["state", "state"]
    given = layer(served(recurrent("RNN", activations=["Relu"])), "RNN").attribute
    assert [attribute.strings for attribute in given if attribute.name == "activations"] == [[b"Relu"]]
