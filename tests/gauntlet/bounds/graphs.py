"""Small ONNX graphs for the bounds, by hand and at random, and what ONNX Runtime makes of them."""

import itertools
import math
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from gauntlet.bounds import onnx_reader
from gauntlet.bounds.crown import linearise
from gauntlet.bounds.interval import interval_excess
from gauntlet.bounds.optimised import Layout, ascend, optimised_interval, root


def model(nodes, weights, shape, output="y", opset=17, output_shape=None):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made = onnx.shape_inference.infer_shapes(made, data_prop=True)
    onnx.checker.check_model(made)
    return made


def served(made, x):
    """ONNX Runtime's outputs (n, outputs) for inputs (n, *shape), one at a time."""
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"x": one})[0].reshape(-1) for one in x.astype(np.float32)])


def dense(widths, seed, activation="Relu"):
    """A fully connected network from (1, widths[0])."""
    draw = np.random.default_rng(seed)
    nodes, weights, x = [], {}, "x"
    for number, (inside, out) in enumerate(itertools.pairwise(widths)):
        weights[f"w{number}"] = (draw.normal(size=(out, inside)) / math.sqrt(inside) * 1.5).astype(np.float32)
        weights[f"b{number}"] = (draw.normal(size=out) * 0.3).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [x, f"w{number}", f"b{number}"], [f"z{number}"], transB=1))
        x = f"z{number}"
        if number < len(widths) - 2:
            nodes.append(helper.make_node(activation, [x], [f"a{number}"]))
            x = f"a{number}"
    return model(nodes, weights, [1, widths[0]], x)


class Random:
    """A graph of layers drawn at random, from an image (1, channels, size, size) to a few outputs."""

    def __init__(self, seed, layers=5):
        self.draw = np.random.default_rng(seed)
        self.shape = [1, int(self.draw.integers(1, 4)), *[int(self.draw.integers(5, 9))] * 2]
        self.nodes, self.weights, self.name, self.at = [], {}, "x", list(self.shape)
        spatial = ["conv", "pool", "average", "norm", "residual", "pad", "transpose"]
        elementwise = ["relu", "leaky", "clip", "sigmoid", "tanh", "maxmin", "scale", "slice", "prelu", "constant"]
        for _ in range(layers):
            getattr(self, str(self.draw.choice(spatial + elementwise + ["relu", "conv"])))()
        self.head()
        self.model = model(self.nodes, self.weights, self.shape, self.name)

    def add(self, operator, inputs=(), **attributes):
        y = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.name, *inputs], [y], **attributes))
        return y

    def weight(self, value):
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value)
        return name

    def then(self, operator, inputs=(), **attributes):
        self.name = self.add(operator, inputs, **attributes)
        self.at = self._shape_of(self.name)

    def _shape_of(self, name):
        made = model(self.nodes, self.weights, self.shape, name)
        return [dim.dim_value for dim in made.graph.output[0].type.tensor_type.shape.dim]

    def real(self, *shape, scale=1.0):
        return (scale * self.draw.normal(size=shape)).astype(np.float32)

    def conv(self):
        groups = self.at[1] if self.draw.random() < 0.3 else 1
        out = groups * int(self.draw.integers(1, 4))
        kernel = [int(k) for k in self.draw.integers(1, 4, 2)]
        pads = [int(p) for p in self.draw.integers(0, 3, 4)]
        dilation = [int(d) for d in self.draw.integers(1, 3, 2)]
        weight = self.real(out, self.at[1] // groups, *kernel, scale=0.7)
        if any(
            n + a + b < (k - 1) * d + 1
            for n, a, b, k, d in zip(self.at[2:], pads[:2], pads[2:], kernel, dilation, strict=True)
        ):
            return
        strides = [int(s) for s in self.draw.integers(1, 3, 2)]
        inputs = self.weight(weight), self.weight(self.real(out, scale=0.3))
        self.then("Conv", inputs, group=groups, pads=pads, dilations=dilation, strides=strides, kernel_shape=kernel)

    def pool(self):
        kernel = [min(int(self.draw.integers(1, 4)), n) for n in self.at[2:]]
        pads = [int(self.draw.integers(0, k)) for k in kernel * 2]
        strides = [int(s) for s in self.draw.integers(1, 3, 2)]
        self.then("MaxPool", kernel_shape=kernel, strides=strides, pads=pads)

    def average(self):
        kernel = [min(2, n) for n in self.at[2:]]
        include = int(self.draw.integers(0, 2))
        pads = [int(self.draw.integers(0, k)) for k in kernel * 2]
        self.then("AveragePool", kernel_shape=kernel, pads=pads, count_include_pad=include)

    def norm(self):
        c = self.at[1]
        values = self.real(c), self.real(c), self.real(c), np.abs(self.real(c)) + 0.5
        self.then("BatchNormalization", [self.weight(v) for v in values])

    def residual(self):
        c = self.at[1]
        inputs = self.weight(self.real(c, c, 3, 3, scale=0.4)), self.weight(self.real(c))
        before = self.name
        self.then("Conv", inputs, pads=[1, 1, 1, 1])
        self.then("Relu")
        self.then("Add", [before])

    def pad(self):
        pads = np.array([0, 0, *self.draw.integers(0, 2, 2), 0, 0, *self.draw.integers(0, 2, 2)], np.int64)
        mode = str(self.draw.choice(["constant", "edge"]))
        inputs = [self.weight(pads)] + ([self.weight(np.float32(0.5))] if mode == "constant" else [])
        self.then("Pad", inputs, mode=mode)

    def transpose(self):
        self.then("Transpose", perm=[0, 1, 3, 2])

    def slice(self):
        if self.at[2] > 2:
            inputs = [self.weight(np.array([v], np.int64)) for v in (1, 1000, 2, 1)]
            self.then("Slice", inputs)

    def relu(self):
        self.then("Relu")

    def leaky(self):
        self.then("LeakyRelu", alpha=float(self.draw.choice([0.01, 0.3, 1.5])))

    def prelu(self):
        self.then("PRelu", [self.weight(np.abs(self.real(self.at[1], 1, 1)))])

    def clip(self):
        self.then("Clip", [self.weight(np.float32(-0.3)), self.weight(np.float32(0.8))])

    def sigmoid(self):
        self.then("Sigmoid")

    def tanh(self):
        self.then("Tanh")

    def scale(self):
        self.then("Mul", [self.weight(self.real(self.at[1], 1, 1))])
        self.then("Sub", [self.weight(self.real(1))])

    def constant(self):
        self.then("Max", [self.weight(self.real(self.at[1], 1, 1, scale=0.3))])

    def maxmin(self):
        """Pairs of channels sorted, as the Lipschitz networks have it."""
        if self.at[1] % 2:
            return
        halves = [f"h{len(self.nodes)}", f"g{len(self.nodes)}"]
        self.nodes.append(helper.make_node("Split", [self.name], halves, axis=1))
        ends = []
        for operator in ("Max", "Min"):
            ends.append(f"t{len(self.nodes)}")
            self.nodes.append(helper.make_node(operator, halves, [ends[-1]]))
        self.name = ends[0]
        self.then("Concat", [ends[1]], axis=1)

    def head(self):
        if self.draw.random() < 0.3:
            self.then("GlobalAveragePool")
        self.then("Flatten")
        self.then("Gemm", [self.weight(self.real(4, self.at[1], scale=0.5)), self.weight(self.real(4))], transB=1)


def points(region, n, seed):
    """Inputs of the region (n, *shape), float64: uniform ones, and corners of the box."""
    draw = torch.Generator().manual_seed(seed)
    share = torch.rand(n, *region.lower.shape[1:], generator=draw, dtype=torch.float64)
    share[n // 2 :] = share[n // 2 :].round()
    return region.project(region.lower + share * (region.upper - region.lower))


def bounds(network, region, method):
    """(K,) lower and upper bounds of the flattened output."""
    size = math.prod(network.output_shape)
    rows = torch.eye(size, dtype=torch.float64).view(size, *network.output_shape)
    if method == "interval":
        return interval_excess(network, region, rows[None])[0], -interval_excess(network, region, -rows[None])[0]
    if method == "crown":
        state = linearise(network, region)
        return state.lower(rows), -state.lower(-rows)
    layout = Layout.of(linearise(network, region, partial(optimised_interval, steps=10)), network.output)
    found = ascend(layout, region, torch.cat([rows, -rows])[None], root(layout, 2 * size), 10).bounds[0]
    return found[:size], -found[size:]


def outside(made, region, method, n=200, seed=0):
    """By how much outputs leave the bounds, at most: those in exact arithmetic, nearly, and those of ONNX Runtime.

    Above zero (beyond float32's rounding for ONNX Runtime) the bounds are unsound.
    """
    network = onnx_reader.from_model(made)
    low, high = bounds(network, region, method)
    x = points(region, n, seed)
    exact, onnx_ = network(x).flatten(1), torch.from_numpy(served(made, x.numpy())).double()
    rounding = 1e-4 * (1 + float(onnx_.abs().max()))
    excess = [torch.maximum(low - y, y - high).max() - slack for y, slack in ((exact, 0.0), (onnx_, rounding))]
    return float(max(excess))
