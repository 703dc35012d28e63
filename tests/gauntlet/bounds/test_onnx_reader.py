"""Graphs as the bounds read them: equal to ONNX Runtime, or refused with the reason."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from gauntlet.bounds import onnx_reader
from gauntlet.bounds.builder import Unboundable
from gauntlet.bounds.linear_operators import Linear
from tests.gauntlet.bounds import graphs

IMAGE = [1, 2, 6, 6]
CLASSIFIERS = [
    path
    for path in sorted(Path("models/artifacts").glob("*/model.onnx"))
    if json.loads(path.with_name("manifest.json").read_text())["kind"] == "classifier"
]


def node(operator, inputs=("x",), **attributes):
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


def ints(*values):
    return np.array(values, np.int64)


SINGLE = {
    "abs": (node("Abs"), {}),
    "average pool, padding not counted": (node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    "average pool, padding counted": (
        node("AveragePool", kernel_shape=[3, 2], pads=[1, 0, 1, 1], count_include_pad=1, strides=[2, 1]),
        {},
    ),
    "cast": (node("Cast", to=TensorProto.FLOAT), {}),
    "clip above": (node("Clip", ["x", "", "a"]), {"a": np.float32(0.4)}),
    "clip below": (node("Clip", ["x", "a"]), {"a": np.float32(0.4)}),
    "concat of a constant": (node("Concat", ["x", "a"], axis=1), {"a": np.ones((1, 1, 6, 6), np.float32)}),
    "conv same upper": (node("Conv", ["x", "a"], auto_pad="SAME_UPPER", strides=[2, 2]), {"a": (3, 2, 3, 3)}),
    "conv same lower": (node("Conv", ["x", "a"], auto_pad="SAME_LOWER"), {"a": (3, 2, 2, 2)}),
    "depth to space": (node("SpaceToDepth", blocksize=2), {}),
    "div": (node("Div", ["x", "a"]), {"a": (2, 1, 1)}),
    "expand": (node("Expand", ["x", "a"]), {"a": ints(1, 2, 6, 6)}),
    "gather": (node("Gather", ["x", "a"], axis=2), {"a": ints(3, 0, 3)}),
    "hard sigmoid": (node("HardSigmoid", alpha=0.7, beta=0.3), {}),
    "matmul right": (node("MatMul", ["x", "a"]), {"a": (6, 3)}),
    "matmul left": (node("MatMul", ["a", "x"]), {"a": (3, 6)}),
    "max pool, ceil": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "max pool, dilated and padded": (
        node("MaxPool", kernel_shape=[3, 2], dilations=[2, 1], pads=[2, 1, 0, 0], strides=[1, 2]),
        {},
    ),
    "max pool, same": (node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"), {}),
    "min with a constant": (node("Min", ["a", "x"]), {"a": (1, 6)}),
    "mul, larger constant": (node("Mul", ["a", "x"]), {"a": (3, 2, 6, 6)}),
    "neg": (node("Neg"), {}),
    "pad reflect": (node("Pad", ["x", "a"], mode="reflect"), {"a": ints(0, 0, 1, 2, 0, 0, 2, 1)}),
    "pad by a constant": (node("Pad", ["x", "a", "b"]), {"a": ints(0, 0, 1, 0, 0, 1, 0, 2), "b": np.float32(0.7)}),
    "reduce mean": (node("ReduceMean", axes=[2, 3], keepdims=0), {}),
    "reduce sum": (node("ReduceSum", ["x", "a"]), {"a": ints(-1)}),
    "reshape": (node("Reshape", ["x", "a"]), {"a": ints(0, -1, 4)}),
    "slice backwards": (
        node("Slice", ["x", "a", "b", "c", "d"]),
        {k: ints(v) for k, v in zip("abcd", (5, 0, 3, -2), strict=True)},
    ),
    "squeeze": (node("Squeeze", ["x", "a"]), {"a": ints(0)}),
    "sub from a constant": (node("Sub", ["a", "x"]), {"a": (2, 1, 6)}),
    "tile": (node("Tile", ["x", "a"]), {"a": ints(1, 2, 1, 1)}),
    "unsqueeze": (node("Unsqueeze", ["x", "a"]), {"a": ints(1)}),
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_operators_equal_onnx_runtime(name):
    single, weights = SINGLE[name]
    draw = np.random.default_rng(0)
    drawn = {k: draw.normal(size=v).astype(np.float32) if isinstance(v, tuple) else v for k, v in weights.items()}
    made = graphs.model([single], drawn, IMAGE)
    network = onnx_reader.from_model(made)
    x = draw.normal(size=(3, *IMAGE)).astype(np.float32)
    assert np.allclose(network(torch.from_numpy(x).double()).flatten(1), graphs.served(made, x), atol=1e-5)


@pytest.mark.parametrize("name", SINGLE)
def test_transposes_and_magnitudes_belong_to_their_operator(name):
    """<a, W x> = <W^T a, x>, and |W| |x| bounds |W x|: |W| is W where no weight is negative."""
    single, weights = SINGLE[name]
    draw = np.random.default_rng(0)
    drawn = {k: draw.normal(size=v).astype(np.float32) if isinstance(v, tuple) else v for k, v in weights.items()}
    network = onnx_reader.from_model(graphs.model([single], drawn, IMAGE))
    for step in network.steps:
        if isinstance(step.operator, Linear):
            shapes = [network.step[n].shape if n else network.input_shape for n in step.inputs]
            x = [torch.randn(2, *shape, dtype=torch.float64) for shape in shapes]
            y = step.operator.apply(*x)
            a = torch.randn_like(y)
            back = step.operator.transpose(a)
            assert torch.allclose((a * y).sum(), sum((p * q).sum() for p, q in zip(back, x, strict=True)))
            assert (step.operator.magnitude(*[p.abs() for p in x]) >= y.abs() - 1e-12).all()


def test_shape_arithmetic_of_old_exporters_and_attributes_of_old_opsets():
    """A flatten that asks for the batch size, Clip and Pad with attributes, weights among the graph's inputs."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0, np.int64))),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(ints(-1))),
        helper.make_node("Unsqueeze", ["batch"], ["batch1"], axes=[0]),
        helper.make_node("Concat", ["batch1", "rest"], ["to"], axis=0),
        helper.make_node("Pad", ["x"], ["padded"], pads=[0, 0, 0, 1, 0, 0, 0, 0]),
        helper.make_node("Clip", ["padded"], ["clipped"], min=-0.5, max=0.5),
        helper.make_node("Reshape", ["clipped", "to"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]
    draw = np.random.default_rng(0)
    weights = {"w": draw.normal(size=(84, 3)).astype(np.float32), "b": draw.normal(size=3).astype(np.float32)}
    made = graphs.model(nodes, weights, IMAGE, opset=9, output_shape=[1, 3])
    for name, value in weights.items():
        made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    x = draw.normal(size=(3, *IMAGE)).astype(np.float32)
    network = onnx_reader.from_model(made)
    assert np.allclose(network(torch.from_numpy(x).double()).flatten(1), graphs.served(made, x), atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_equal_onnx_runtime(seed):
    graph = graphs.Random(seed + 100, layers=7)
    network = onnx_reader.from_model(graph.model)
    x = np.random.default_rng(seed).normal(size=(4, *graph.shape)).astype(np.float32)
    expected = graphs.served(graph.model, x)
    assert np.allclose(network(torch.from_numpy(x).double()).flatten(1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.parent.name)
def test_every_shipped_classifier_is_read(path):
    model = onnx.load(path)
    network = onnx_reader.read(path)
    x = torch.rand(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    assert np.allclose(network(x.double()).flatten(1), graphs.served(model, x.numpy()), atol=1e-4)


@pytest.mark.parametrize(
    ("single", "weights", "reason"),
    [
        (node("Softmax"), {}, "no rule for Softmax"),
        (node("Mul", ["x", "x"]), {}, "Mul of two variables"),
        (node("Div", ["a", "x"]), {"a": (1,)}, "Div by a variable"),
        (node("MatMul", ["x", "x"]), {}, "MatMul of two variables"),
        (node("LeakyRelu", alpha=-0.5), {}, "negative slope"),
        (node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}, "ceil_mode"),
    ],
)
def test_what_has_no_rule_is_refused_with_the_reason(single, weights, reason):
    drawn = {k: np.ones(v, np.float32) for k, v in weights.items()}
    with pytest.raises(Unboundable, match=reason):
        onnx_reader.from_model(graphs.model([single], drawn, IMAGE))


def test_a_cast_that_rounds_is_refused():
    nodes = [helper.make_node("Cast", ["x"], ["z"], to=TensorProto.FLOAT16), node("Cast", ["z"], to=TensorProto.FLOAT)]
    with pytest.raises(Unboundable, match="rounds values"):
        onnx_reader.from_model(graphs.model(nodes, {}, IMAGE))


def test_a_file_that_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no graph at all")
    for name in ("bad.onnx", "absent.onnx"):
        with pytest.raises(Unboundable, match=name):
            onnx_reader.read(tmp_path / name)


def test_an_input_of_any_size_is_refused():
    graph = helper.make_graph(
        [node("Relu")],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, "height", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, "height", 4])],
    )
    with pytest.raises(Unboundable, match="no fixed size"):
        onnx_reader.from_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
