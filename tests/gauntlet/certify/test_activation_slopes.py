"""Every slope that the prover relies on, held against what ONNX Runtime computes."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from gauntlet.certify.activation_slopes import STEEPEST

CASES = [(name, {}) for name in STEEPEST] + [
    ("LeakyRelu", {"alpha": 1.7}),
    ("Elu", {"alpha": 2.5}),
    ("HardSigmoid", {"alpha": 0.6}),
    ("Selu", {"gamma": 0.5, "alpha": 3.0}),
    ("Celu", {"alpha": 3.0}),
    ("Gelu", {"approximate": "tanh"}),
]


@pytest.mark.parametrize(("name", "given"), CASES)
def test_nothing_is_steeper_and_little_less(name, given):
    values = [helper.make_tensor_value_info(side, TensorProto.FLOAT, ["n"]) for side in ("x", "y")]
    graph = helper.make_graph([helper.make_node(name, ["x"], ["y"], **given)], "one", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(-8, 8, 1601, dtype=np.float32)
    (y,) = session.run(None, {"x": x})
    found = float(np.abs(np.diff(y.astype(np.float64)) / np.diff(x.astype(np.float64))).max())
    bound = STEEPEST[name](given)
    assert found <= bound * (1 + 1e-3)  # float32 differences
    assert found >= 0.98 * bound


def test_a_celu_that_grows_without_end_has_no_bound():
    assert STEEPEST["Celu"]({"alpha": -1.0}) == float("inf")
