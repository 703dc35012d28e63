"""Eight-bit models: gradients that pass the rounding, of a twin that rounds as ONNX Runtime does."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnxruntime.quantization import QuantFormat, QuantType

from gauntlet.artifacts.manifest import STRAIGHT_THROUGH
from gauntlet.checks import white_box
from gauntlet.errors import ArtefactError
from gauntlet.evaluation import referee
from gauntlet.runtime import quantised_graph, straight_through, twin
from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.session import exact_session
from gauntlet.threat import Threat
from tests import cases
from tests import quantised as nets
from tests.adopted import opened

WAYS = {
    "QOperator, uint8": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QUInt8, False),
    "QOperator, per channel": (QuantFormat.QOperator, QuantType.QUInt8, QuantType.QInt8, True),
    "QOperator, int8": (QuantFormat.QOperator, QuantType.QInt8, QuantType.QInt8, False),
    "QDQ, per channel": (QuantFormat.QDQ, QuantType.QInt8, QuantType.QInt8, True),
    "QDQ": (QuantFormat.QDQ, QuantType.QUInt8, QuantType.QInt8, False),
}


def quantise(folder: Path, middle: str, way: str, last: str = "Gemm") -> bytes:
    form, activations, weights, per_channel = WAYS[way]
    return nets.quantise(
        nets.network(middle, last), folder, form=form, activations=activations, weights=weights, per_channel=per_channel
    )


def served(data: bytes, x: torch.Tensor) -> torch.Tensor:
    session = exact_session(data, ort.SessionOptions(), ["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def check(data: bytes) -> Classifier:
    """Its twin answers as the file does, within the quantiser's steps, and says how its gradients are had."""
    model = opened(data)
    assert model.manifest.gradients == STRAIGHT_THROUGH
    x = torch.rand(32, *model.manifest.input_shape, generator=torch.Generator().manual_seed(0))
    answers = served(data, x)
    assert torch.allclose(model.predict(x), answers, atol=0.02 * float(answers.max() - answers.min()))
    with torch.no_grad():
        found = model.twin(x)
    assert (found.argmax(1) == answers.argmax(1)).float().mean() > 0.9
    assert float((found - answers).abs().max()) <= 0.02 * float(answers.max() - answers.min())
    return model


@pytest.mark.parametrize("name", ["qdq.onnx", "qop.onnx"])
def test_the_cases_are_attacked_by_their_gradients(name: str) -> None:
    model = check(cases.read(name))
    x = torch.rand(16, *model.manifest.input_shape, generator=torch.Generator().manual_seed(1))
    y = model.predict(x).argmax(dim=1)
    threat = Threat("linf", 0.1)
    broken = {
        attack: int(referee.run(model, attack, x, y, threat, params=params).success.sum())
        for attack, params in {"pgd": {"steps": 20}, "noise": {}}.items()
    }
    assert broken["pgd"] > broken["noise"] + 4


@pytest.mark.parametrize("middle", nets.MIDDLES)
def test_every_operator_of_the_quantiser(middle: str, tmp_path: Path) -> None:
    for way in ("QOperator, per channel", "QDQ"):
        check(quantise(tmp_path, middle, way))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_quantising(way: str, tmp_path: Path) -> None:
    check(quantise(tmp_path, "relu", way, "MatMul"))
    check(quantise(tmp_path, "two-convolutions", way))


@settings(derandomize=True, database=None, max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(nets.BLOCKS)), min_size=1, max_size=5),
    st.sampled_from(["Gemm", "MatMul"]),
    st.booleans(),
    st.sampled_from(sorted(WAYS)),
    st.integers(0, 99),
)
def test_networks_that_nobody_wrote_down(blocks: list[str], last: str, pooled: bool, way: str, seed: int) -> None:
    form, activations, weights, per_channel = WAYS[way]
    data = nets.chain(blocks, last=last, pooled=pooled, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        made = nets.quantise(
            data, Path(folder), form=form, activations=activations, weights=weights, per_channel=per_channel
        )
    best = served(made, torch.rand(32, *nets.SHAPE, generator=torch.Generator().manual_seed(0))).topk(2, dim=1).values
    assume(
        float((best[:, 0] > best[:, 1]).float().mean()) > 0.8
    )  # two saturated classes tie: there is nothing to climb
    check(made)


@pytest.mark.parametrize("weights", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("last", ["Gemm", "MatMul"])
def test_dynamic_quantisation_is_answered_image_by_image(weights: QuantType, last: str, tmp_path: Path) -> None:
    data = nets.quantise_dynamically(nets.network("two-convolutions", last), tmp_path, weights)
    assert {"DynamicQuantizeLinear", "ConvInteger"} <= nets.operators(data)
    model = opened(data)
    assert model.manifest.gradients == STRAIGHT_THROUGH
    assert model.manifest.adoption is not None
    assert model.manifest.adoption.choices["batch"].value == "1"
    x = torch.rand(8, *model.manifest.input_shape, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([served(data, image[None]) for image in x])
    apart = 0.02 * float(alone.max() - alone.min())
    assert torch.allclose(model.predict(x), alone, atol=apart)
    with torch.no_grad():
        assert torch.allclose(model.twin(x), alone, atol=apart)


def test_the_operators_are_those_that_have_rules(tmp_path: Path) -> None:
    met = set().union(*(nets.operators(quantise(tmp_path, middle, "QOperator, uint8")) for middle in nets.MIDDLES))
    met |= nets.operators(quantise(tmp_path, "relu", "QOperator, uint8", "MatMul"))
    met |= nets.operators(nets.quantise_dynamically(nets.network("relu", "MatMul"), tmp_path, QuantType.QUInt8))
    assert set(quantised_graph.OPERATORS) <= met


def with_last(data: bytes, *, rounded: bool) -> bytes:
    """A softmax at the end of a QDQ model, its answers rounded to bytes."""
    model = onnx.load_from_string(data)
    graph = model.graph
    graph.node[-1].output[0] = "logits"
    graph.node.append(helper.make_node("Softmax", ["logits"], ["p" if rounded else "y"], axis=1))
    if rounded:
        scale = [onnx.numpy_helper.from_array(np.float32(1 / 256), "ps")]
        graph.initializer.extend([*scale, onnx.numpy_helper.from_array(np.uint8(0), "pz")])
        graph.node.append(helper.make_node("QuantizeLinear", ["p", "ps", "pz"], ["q"]))
        graph.node.append(helper.make_node("DequantizeLinear", ["q", "ps", "pz"], ["y"]))
    return model.SerializeToString()


@pytest.mark.parametrize("rounded", [True, False])
def test_a_softmax_at_the_end_is_taken_off_with_its_rounding(rounded: bool) -> None:
    data = with_last(cases.read("qdq.onnx"), rounded=rounded)
    model = opened(data)
    assert model.manifest.gradients == STRAIGHT_THROUGH
    x = torch.rand(8, *model.manifest.input_shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.predict(x).softmax(dim=1), served(data, x), atol=1 / 256)
    assert torch.allclose(model.predict(x), served(cases.read("qdq.onnx"), x), atol=1e-4)


def test_the_gradient_is_that_of_the_function_that_does_not_round() -> None:
    """A scale of a power of two, nothing saturated: dy/dx is the product of the weights."""
    w = np.random.default_rng(0).integers(-8, 8, (4, 3)).astype(np.float32) / 8
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    constants = {"s": np.float32(2**-7), "z": np.uint8(0), "w": w}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 4])],
        [helper.make_tensor_value_info("y", 1, ["n", 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert quantised_graph.is_quantised(model)
    network = twin.convert(model)
    x = torch.rand(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[:, 1].sum(), x)
    assert torch.equal(gradient, torch.from_numpy(w[:, 1]).expand(2, 4))
    rounded = (x * 2**7).round() / 2**7
    assert torch.allclose(network(x), rounded @ torch.from_numpy(w))
    (beyond,) = torch.autograd.grad(network(x + 3).sum(), x)  # more than a byte holds
    assert not beyond.any()


def test_weights_alone_in_eight_bits_are_rounded_with_what_they_meet() -> None:
    model = onnx.load_from_string(cases.read("opt.onnx"))
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "w2")
    values = onnx.numpy_helper.to_array(weight)
    scale = np.float32(np.abs(values).max() / 127)
    weight.CopyFrom(onnx.numpy_helper.from_array(np.rint(values / scale).astype(np.int8), "w2q"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "w2s"))
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["w2q", "w2s"], ["w2"]))
    check(model.SerializeToString())


def test_bytes_that_come_in_are_rounded_with_a_gradient() -> None:
    """A model whose input is bytes, read as a quantised tensor: the picture itself is rounded to 8 bits."""
    model = onnx.load_from_string(cases.read("qdq.onnx"))
    for node in list(model.graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] == "x":
            node.op_type = "Identity"
            del node.input[1:]
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    for tensor in model.graph.initializer:
        if tensor.name == "x_zero_point":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.uint8(0), "x_zero_point"))
    found = opened(model.SerializeToString())
    assert found.manifest.gradients == STRAIGHT_THROUGH
    x = torch.rand(4, *found.manifest.input_shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.allclose(found.twin(x), found.predict(x), atol=1e-3)
    (gradient,) = torch.autograd.grad(found.twin(x)[:, 0].sum(), x)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0


def test_a_gradient_that_leads_nowhere_is_refused() -> None:
    model = opened(cases.read("qdq.onnx"))
    shape, place = model.manifest.input_shape, torch.device("cpu")

    class Backwards(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = model.twin(2 * x.detach() - x)  # the same value, the opposite gradient
            return logits

    class Other(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = model.twin(x).flip(1)
            return logits

    straight_through.check(model.twin, model.predict, shape, place)
    with pytest.raises(ArtefactError, match="raises the served margin by -"):
        straight_through.check(Backwards(), model.predict, shape, place)
    with pytest.raises(ArtefactError, match="disagree by"):
        straight_through.check(Other(), model.predict, shape, place)


def test_a_twin_need_not_be_nearer_to_what_is_served_than_that_is_to_itself() -> None:
    model = opened(cases.read("qdq.onnx"))
    shape, place = model.manifest.input_shape, torch.device("cpu")
    spread = float((model.predict(torch.rand(8, *shape)).max() - model.predict(torch.rand(8, *shape)).min()).abs())

    def unsteady(size: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def predict(x: torch.Tensor) -> torch.Tensor:
            """As served, moved by what no eye sees of the image: as a deep network's roundings move it."""
            turns = 1e6 * x.flatten(1).double().sum(dim=1, keepdim=True) + torch.arange(len(model.manifest.classes))
            return model.predict(x) + size * spread * turns.sin().float()

        return predict

    straight_through.check(model.twin, unsteady(0.15), shape, place)
    steady, moved = model.predict, unsteady(0.15)
    with pytest.raises(ArtefactError, match=r"a change of the pixels by 0\.0001 moves ONNX Runtime's own by"):
        straight_through.check(lambda x: moved(x.detach()) - steady(x.detach()) + model.twin(x), steady, shape, place)  # type: ignore[arg-type]


def test_an_operator_without_a_rule_leaves_no_gradients() -> None:
    model = onnx.load_from_string(cases.read("qop.onnx"))
    for node in model.graph.node:
        if node.op_type == "QGemm":
            node.input[4] = "made"  # a scale that is computed from the image
    computed = [
        helper.make_node("ReduceMax", [model.graph.input[0].name], ["brightest"], keepdims=0),
        helper.make_node("Equal", ["brightest", "brightest"], ["true"]),
        helper.make_node("Cast", ["true"], ["one"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["w2_scale", "one"], ["made"]),
    ]
    for node in reversed(computed):
        model.graph.node.insert(0, node)
    found = opened(model.SerializeToString()).manifest.gradients
    assert found.startswith("none (")
    assert "is not a constant" in found


def test_a_report_does_not_take_rounding_for_a_fault() -> None:
    model = opened(cases.read("qdq.onnx"))
    x = torch.rand(12, *model.manifest.input_shape, generator=torch.Generator().manual_seed(1))
    found = white_box.examine(model, x, model.predict(x).argmax(dim=1), check_cancelled=lambda: None).verdicts
    assert [name for name, verdict in found.items() if not verdict.passed] == []
    assert "gradients are right" not in found
    assert "gradients lead somewhere" in found
