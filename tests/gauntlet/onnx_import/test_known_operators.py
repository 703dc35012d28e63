"""A file is judged by the operators that it uses, not by what it declares."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import FunctionProto, NodeProto, helper

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import validation
from gauntlet.onnx_import.conversion import adopt
from gauntlet.onnx_import.settings import ModelSettings
from tests import cases, zoo

X = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)


def plain() -> onnx.ModelProto:
    return onnx.load_from_string(zoo.dense((1, 8, 8)))


def ask(data: bytes) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})[0]


def test_what_the_optimizer_declares_does_not_matter() -> None:
    adopted = adopt(cases.read("opt.onnx"), ModelSettings(name="m"))
    assert {entry.domain for entry in onnx.load_from_string(adopted.graph).opset_import} == {""}


DOMAINS = st.lists(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True), max_size=12, unique=True)


@settings(derandomize=True, database=None, max_examples=25, deadline=None)
@given(DOMAINS, st.integers(1, 99))
def test_no_import_without_an_operator_matters(domains: list[str], version: int) -> None:
    model = plain()
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain in domains)
    assert [entry.domain for entry in validation.read(model.SerializeToString()).opset_import] == [""]
    if domains:
        model.graph.node[-1].domain = domains[0]
        with pytest.raises(InvalidInput, match=f"operator {domains[0]}.MatMul is not supported"):
            validation.read(model.SerializeToString())


def function(name: str, *nodes: NodeProto) -> FunctionProto:
    return helper.make_function("own", name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 17), OWN])


OWN = helper.make_opsetid("own", 1)


def calling(*functions: FunctionProto, call: str = "Act") -> bytes:
    """The plain model with its ReLU made a call."""
    model = plain()
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.domain, node.op_type = "own", call
    model.opset_import.append(OWN)
    model.functions.extend(functions)
    return model.SerializeToString()


def node(operator: str, reads: str, makes: str, domain: str = "") -> NodeProto:
    return helper.make_node(operator, reads.split(), makes.split(), domain=domain)


def test_functions_are_inlined() -> None:
    inner = function("Inner", node("Relu", "a", "b"))
    outer = function("Act", node("Inner", "a", "c", "own"), node("Inner", "c", "b", "own"))
    unused = function("Unused", node("Nonesuch", "a", "b", "evil"))
    adopted = adopt(calling(inner, outer, unused), ModelSettings(name="m"))
    assert np.allclose(ask(adopted.graph), ask(zoo.dense((1, 8, 8))), atol=1e-5)


def doubling(depth: int) -> list[FunctionProto]:
    """Each calls the next twice."""
    calls = [
        function(f"F{i}", node(f"F{i + 1}", "a", "c", "own"), node(f"F{i + 1}", "c", "b", "own")) for i in range(depth)
    ]
    return [*calls, function(f"F{depth}", node("Relu", "a", "b"))]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (calling(function("Act", node("FusedThing", "a", "b", "evil"))), "operator evil.FusedThing is not supported"),
        (calling(function("Act", node("Act", "a", "b", "own"))), "calls itself"),
        (calling(*doubling(60), call="F0"), "with its functions inlined it has"),
        (calling(*doubling(300), call="F0"), "301 functions"),
        (calling(function("Act", node("Bernoulli", "a", "b"))), "draws random numbers"),
        (calling(call="Nobody"), "operator own.Nobody is not supported"),
    ],
)
def test_functions_are_judged_by_what_they_do(data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        validation.read(data)


def test_a_loop_in_a_function_is_found() -> None:
    branch = helper.make_graph([], "branch", [], [])
    loop = helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    with pytest.raises(InvalidInput, match="graph of its own"):
        validation.read(calling(function("Act", loop)))


@pytest.mark.parametrize("batch", ["n", 4])
def test_a_batch_that_matters_is_named(batch: object) -> None:
    scale = {"s": np.ones(5, np.float32), "o": np.zeros(5, np.float32)}
    for operator, says in (
        ("BatchNormalization", "in training mode"),
        ("DynamicQuantizeLinear", "dynamic quantisation"),
    ):
        model = onnx.load_from_string(zoo.dense((1, 8, 8), batch=batch))
        model.graph.node[-1].output[0] = "z"
        if operator == "BatchNormalization":
            model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in scale.items())
            made = [helper.make_node(operator, ["z", "s", "o", "o", "s"], ["y", "m", "v"], training_mode=1)]
        else:
            made = [helper.make_node(operator, ["z"], ["q", "by", "zero"])]
            made.append(helper.make_node("DequantizeLinear", ["q", "by", "zero"], ["y"]))
        model.graph.node.extend(made)
        if batch == "n" and operator == "DynamicQuantizeLinear":  # then it is asked for one image at a time
            continue
        with pytest.raises(InvalidInput, match=f"other images of the batch: {operator}.*{says}"):
            adopt(model.SerializeToString(), ModelSettings(name="m"))


def test_a_batch_that_matters_without_a_known_operator() -> None:
    model = onnx.load_from_string(zoo.dense((1, 8, 8)))
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("ReduceMean", ["z"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.append(helper.make_node("Sub", ["z", "mean"], ["y"]))
    with pytest.raises(InvalidInput, match="works across the batch"):
        adopt(model.SerializeToString(), ModelSettings(name="m"))


def test_one_image_at_a_time_cannot_mix() -> None:
    model = onnx.load_from_string(zoo.dense((1, 8, 8), batch=1))
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["z"], ["q", "by", "zero"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "by", "zero"], ["y"]))
    graph = onnx.load_from_string(adopt(model.SerializeToString(), ModelSettings(name="m")).graph).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
