"""Binary classifiers: two classes, and the probability is the model's own."""

import warnings
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests import cases, zoo

W = np.random.default_rng(0).normal(size=(64, 1)).astype(np.float32)
X = np.random.default_rng(1).random((20, 1, 8, 8), dtype=np.float32)


def logits(data: bytes, x: np.ndarray = X) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0].astype(np.float64)


def second(z: np.ndarray) -> np.ndarray:
    """The probability that Gauntlet gives the second class: a softmax of its two logits."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True))[:, 1]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def binary(*nodes: tuple[str, str, str], scale: float = 1.0, opset: int = 17, **weights: np.ndarray) -> bytes:
    """One number of a flattened image, and what is made of it."""
    made = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["z"])]
    given = {"Concat": {"axis": 1}, "Softmax": {"axis": 1}}
    made += [helper.make_node(kind, reads.split(), [makes], **given.get(kind, {})) for kind, reads, makes in nodes]
    rank = ["n"] if any(kind == "Squeeze" for kind, *_ in nodes) else ["n", None]
    return zoo.build(made, {"w": W * np.float32(scale), **weights}, ["n", 1, 8, 8], rank, opset=opset)


SQUEEZE = {"axes": np.asarray([1], np.int64)}
ONE = {"one": np.asarray([1], np.float32)}
FORMS: dict[str, tuple[list[tuple[str, str, str]], dict[str, np.ndarray]]] = {
    "sigmoid (N, 1)": ([("Sigmoid", "z", "y")], {}),
    "sigmoid (N,)": ([("Sigmoid", "z", "p"), ("Squeeze", "p axes", "y")], SQUEEZE),
    "squeezed, then sigmoid": ([("Squeeze", "z axes", "s"), ("Sigmoid", "s", "y")], SQUEEZE),
    "logit (N, 1)": ([("Identity", "z", "y")], {}),
    "logit (N,)": ([("Squeeze", "z axes", "y")], SQUEEZE),
    "1 - p, p": ([("Sigmoid", "z", "p"), ("Sub", "one p", "q"), ("Concat", "q p", "y")], ONE),
    "sigmoids of -z, z": ([("Neg", "z", "m"), ("Concat", "m z", "both"), ("Sigmoid", "both", "y")], {}),
    "scores -z, z": ([("Neg", "z", "m"), ("Concat", "m z", "y")], {}),
    "a probability without a sigmoid": (
        [("Neg", "z", "m"), ("Exp", "m", "e"), ("Add", "e one", "d"), ("Div", "one d", "y")],
        ONE,
    ),
}


@settings(derandomize=True, database=None, max_examples=40, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.floats(0.1, 5), st.sampled_from([13, 17, 20]))
def test_the_probability_is_the_models_own(form: str, scale: float, opset: int) -> None:
    nodes, weights = FORMS[form]
    adopted = adopt(binary(*nodes, scale=scale, opset=opset, **weights), ModelSettings(name="m"))
    assert len(adopted.manifest.classes) == 2
    z = X.reshape(20, -1).astype(np.float64) @ W[:, 0] * scale
    assert np.abs(second(logits(adopted.graph)) - sigmoid(z)).max() < 1e-4


def test_the_other_order_of_two_complements() -> None:
    data = binary(("Sigmoid", "z", "p"), ("Sub", "one p", "q"), ("Concat", "p q", "y"), **ONE)
    z = X.reshape(20, -1) @ W[:, 0]
    assert np.abs(second(logits(adopt(data, ModelSettings(name="m")).graph)) - sigmoid(-z)).max() < 1e-5


def test_gradients_of_a_saturated_sigmoid_are_there() -> None:
    """A probability that is 1 in float32 has no logarithm of its rest; the logit has."""
    nodes, weights = FORMS["1 - p, p"]
    z = logits(adopt(binary(*nodes, scale=40, **weights), ModelSettings(name="m")).graph)
    expected = 40 * (X.reshape(20, -1) @ W[:, 0])
    assert np.abs(expected).max() > 100
    assert np.allclose(z[:, 1] - z[:, 0], expected, rtol=1e-4)


def test_what_is_said_of_one_output() -> None:
    for told, expected in (("logits", sigmoid), ("probabilities", np.asarray), ("sigmoid", np.asarray)):
        data = binary(("Sigmoid", "z", "s"), ("Sqrt", "s", "y"))
        adopted = adopt(data, ModelSettings(name="m", output=told, classes=("cat", "dog")))
        given = np.sqrt(sigmoid(X.reshape(20, -1) @ W[:, 0]))
        assert np.abs(second(logits(adopted.graph)) - expected(given)).max() < 1e-4
        assert adopted.manifest.classes == ("cat", "dog")
        assert adopted.manifest.adoption.choices["output"].given  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="not its logarithm"):
        adopt(binary(("Identity", "z", "y")), ModelSettings(name="m", output="log-probabilities"))
    with pytest.raises(InvalidInput, match="the same for every image"):
        adopt(binary(("Softmax", "z", "y")), ModelSettings(name="m"))


def test_the_case_of_one_sigmoid() -> None:
    data, x = cases.read("one-sigmoid.onnx"), np.random.default_rng(2).random((5, 1, 28, 28), dtype=np.float32)
    adopted = adopt(data, ModelSettings(name="m"))
    assert adopted.manifest.classes == ("0", "1")
    assert np.allclose(second(logits(adopted.graph, x)), logits(data, x)[:, 0], atol=1e-6)
    choice = adopted.manifest.adoption.choices["output"]  # type: ignore[union-attr]
    assert not choice.given
    assert "the second class's" in choice.reason


def fitted() -> dict[str, Any]:
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    x, y = X.reshape(20, -1), np.where(X.reshape(20, -1).mean(axis=1) > 0.5, "bright", "dark")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about convergence
        models = (
            LogisticRegression(C=100),
            MLPClassifier((8,), max_iter=30, random_state=0),
            RandomForestClassifier(3),
        )
        return {type(model).__name__: model.fit(x, y) for model in models}


@pytest.mark.parametrize("zipmap", [True, False, "columns"])
def test_binary_classifiers_of_scikit_learn(zipmap: object) -> None:
    from skl2onnx import to_onnx  # noqa: PLC0415  not among what the tests always have

    for name, model in fitted().items():
        data = to_onnx(model, X.reshape(20, -1)[:1], options={"zipmap": zipmap}, target_opset=18).SerializeToString()
        adopted = adopt(data, ModelSettings(name="m"))
        assert adopted.manifest.classes == ("bright", "dark")
        own = model.predict_proba(X.reshape(20, -1))[:, 1]
        assert np.abs(second(logits(adopted.graph)) - own).max() < 1e-5, name
