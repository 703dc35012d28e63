"""Whatever a graph's constants are and wherever they lie: it is served, with verified gradients or a true reason."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from gauntlet.certify import lipschitz
from gauntlet.runtime import classifier, gradient_check
from gauntlet.runtime.classifier import Classifier
from tests import adopted, zoo

Arrays = dict[str, NDArray]
DRAW = np.random.default_rng(0)


def draw(*shape: int) -> NDArray[np.float32]:
    return (DRAW.normal(size=shape) / 4).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)


def scalar(value: float) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)


ONES, POSITIVE = np.ones(3, np.float32), np.asarray([0.5, 1.0, 1.5], np.float32)
LAYERS: dict[str, tuple[str, Arrays, dict]] = {
    "add-rank-0": ("Add x a", {"a": scalar(0.3)}, {}),
    "add-rank-1": ("Add x a", {"a": draw(8)}, {}),
    "mul-rank-3": ("Mul x a", {"a": draw(3, 1, 1)}, {}),
    "batch-norm": ("BatchNormalization x s o m v", {"s": ONES, "o": draw(3), "m": draw(3), "v": POSITIVE}, {}),
    "clip": ("Clip x low high", {"low": scalar(0.1), "high": scalar(0.9)}, {}),
    "conv": ("Conv x w b", {"w": draw(4, 3, 3, 3), "b": draw(4)}, {"kernel_shape": [3, 3]}),
    "conv-transpose": ("ConvTranspose x w b", {"w": draw(3, 4, 2, 2), "b": draw(4)}, {"kernel_shape": [2, 2]}),
    "instance-norm": ("InstanceNormalization x s o", {"s": POSITIVE, "o": draw(3)}, {}),
    "layer-norm": ("LayerNormalization x s o", {"s": draw(8) + 1, "o": draw(8)}, {"axis": -1}),
    "matmul-left": ("MatMul a x", {"a": draw(6, 8)}, {}),
    "matmul-right": ("MatMul x a", {"a": draw(8, 6)}, {}),
    "matmul-right-rank-3": ("MatMul x a", {"a": draw(3, 8, 6)}, {}),
    "matmul-right-rank-4": ("MatMul x a", {"a": draw(1, 3, 8, 6)}, {}),
    "pad": ("Pad x p", {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, {}),
    "prelu": ("PRelu x a", {"a": draw(3, 1, 1)}, {}),
    "slice": ("Slice x from to axes", {"from": ints(1), "to": ints(6), "axes": ints(2)}, {}),
    "where": ("Where c x a", {"c": DRAW.random((1, 3, 8, 8)) > 0.5, "a": draw(1)}, {}),
}


def build(nodes: list[NodeProto], weights: Arrays, placed: str) -> bytes:
    """A graph from "x" (n, 3, 8, 8) to the answer of a dense layer to "h", its constants as weights or as nodes."""
    nodes = [*nodes, helper.make_node("Flatten", ["h"], ["flat"])]
    size = _size(nodes, weights)
    head = {"w.head": (DRAW.normal(size=(size, 5)) / 8).astype(np.float32)}
    nodes.append(helper.make_node("MatMul", ["flat", "w.head"], ["y"]))
    if placed == "nodes":
        made = [
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
            for name, array in (weights | head).items()
        ]
        return zoo.build([*made, *nodes], {}, ["n", 3, 8, 8], ["n", 5])
    return zoo.build(nodes, weights | head, ["n", 3, 8, 8], ["n", 5])


def _size(nodes: list[NodeProto], weights: Arrays) -> int:
    data = zoo.build(nodes, weights, [1, 3, 8, 8], [], outputs=[helper.make_tensor_value_info("flat", 1, None)])
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})[0].shape[1]


def layer(name: str, placed: str) -> bytes:
    words, weights, attributes = LAYERS[name]
    operator, *reads = words.split()
    return build([helper.make_node(operator, reads, ["h"], **attributes)], weights, placed)


def of_rank(rank: int, placed: str) -> bytes:
    """A constant of this rank is added to the image, with axes of size one put in."""
    axes = tuple(range(1, rank - 3))
    nodes = [helper.make_node("Unsqueeze", ["x", "axes"], ["u"])] if axes else []
    nodes.append(helper.make_node("Add", ["u" if axes else "x", "a"], ["h"]))
    return build(nodes, {"a": draw(*[1] * (rank - 3), 3, 8, 8), **({"axes": ints(*axes)} if axes else {})}, placed)


def opened(data: bytes) -> Classifier:
    return adopted.opened(data, pixel_range="0..1", layout="nchw")


def judge(data: bytes) -> str:
    """What is said of its gradients, once it has been seen that it serves what ONNX Runtime answers to the file."""
    model = opened(data)
    x = torch.rand(3, *model.manifest.input_shape, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(model.predict(x).numpy(), expected, atol=1e-4)
    return model.manifest.gradients


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # onnx2pytorch's slices
@pytest.mark.parametrize("placed", ["weights", "nodes"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_verified_gradients_wherever_its_parameters_lie(name: str, placed: str):
    assert judge(layer(name, placed)) == "verified"


@pytest.mark.parametrize("placed", ["weights", "nodes"])
@pytest.mark.parametrize("rank", [4, 5, 6])
def test_a_constant_of_any_rank_has_verified_gradients(rank: int, placed: str):
    assert judge(of_rank(rank, placed)) == "verified"


@pytest.mark.parametrize("case", ["in-const", "rank5"])
def test_files_that_a_twin_could_not_be_finished_for(case: str):
    assert judge((Path(__file__).parents[2] / "cases" / f"{case}.onnx").read_bytes()) == "verified"


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (classifier, "open_twin"),
        (gradient_check, "doubled"),
        (gradient_check, "rounding"),
        (gradient_check, "_check_logits"),
    ],
)
def test_whatever_goes_wrong_with_a_twin_is_the_reason_why_there_are_no_gradients(monkeypatch, module, step):
    def fail(*_: object) -> None:
        raise RuntimeError("the sky\nfell")

    monkeypatch.setattr(module, step, fail)
    model = opened(layer("conv", "weights"))
    assert model.manifest.gradients == "none (model.onnx: its torch twin cannot be used RuntimeError: the sky fell)"
    assert not model.manifest.differentiable
    assert model.predict(torch.zeros(1, 3, 8, 8)).shape == (1, 5)


def test_a_proof_that_cannot_be_finished_proves_nothing_and_says_why(monkeypatch):
    monkeypatch.setattr(lipschitz.spectral_norms, "convolution", lambda *_, **__: 1 / 0)
    model = opened(layer("conv", "weights"))
    assert model.manifest.differentiable
    assert model.certificate.lipschitz is None
    assert "ZeroDivisionError" in model.certificate.reason
