"""No output ever leaves the bounds, and a rule that is slightly wrong is noticed."""

import numpy as np
import pytest
import torch
from onnx import helper

from gauntlet.bounds import onnx_reader, rules_activation
from gauntlet.bounds.crown import linearise
from gauntlet.bounds.linear_operators import Convolution
from gauntlet.bounds.nonlinear import Relu, Sigmoid
from gauntlet.bounds.region import Region
from tests.gauntlet.bounds import graphs

METHODS = ("interval", "crown", "alpha-crown")


def region_of(shape, seed, norm, eps):
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Region.ball(x, norm, eps)


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 32))])
def test_outputs_of_random_graphs_stay_inside(seed):
    graph = graphs.Random(seed)
    for norm, eps in (("linf", 0.1), ("l2", 0.5), ("linf", 0.0)):
        region = region_of(graph.shape, seed, norm, eps)
        for method in METHODS:
            assert graphs.outside(graph.model, region, method) <= 0, (norm, eps, method)


@pytest.mark.parametrize("seed", range(10))
def test_bounds_of_a_single_point_are_its_output(seed):
    graph = graphs.Random(seed)
    region = region_of(graph.shape, seed, "linf", 0.0)
    network = onnx_reader.from_model(graph.model)
    y = network(region.centre).flatten()
    for method in METHODS:
        for end in graphs.bounds(network, region, method):
            assert torch.allclose(end, y, atol=1e-8, rtol=1e-8)


def test_dearer_methods_are_tighter():
    widths = np.zeros(len(METHODS))
    for seed in range(5):
        network = onnx_reader.from_model(graphs.dense([6, 12, 12, 12, 3], seed))
        region = region_of(network.input_shape, seed, "linf", 0.1)
        widths += [float((high - low).sum()) for low, high in (graphs.bounds(network, region, m) for m in METHODS)]
    assert widths[2] < widths[1]
    assert widths[1] < 0.9 * widths[0]


def test_a_convex_relaxation_of_one_layer_is_exact_where_no_relu_is_free():
    network = onnx_reader.from_model(graphs.dense([4, 5, 2], 0))
    region = region_of(network.input_shape, 1, "linf", 1e-3)
    low, high = graphs.bounds(network, region, "crown")
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)[:, None]
    y = network(region.lower[0] + corners * (region.upper - region.lower)[0]).flatten(1)
    assert torch.allclose(y.amin(0), low, atol=1e-9)
    assert torch.allclose(y.amax(0), high, atol=1e-9)


def crossing(activation):
    """By how much a line leaves its side of the function, at most, over many intervals."""
    draw = torch.Generator().manual_seed(0)
    ends = 6 * torch.randn(2, 1000, generator=draw, dtype=torch.float64)
    low, high = ends.amin(0), ends.amax(0)
    worst = -torch.inf
    for place in (activation.start(low, high), torch.rand(2, 1000, generator=draw, dtype=torch.float64)):
        lines = activation.lines(low, high, place)
        for share in torch.linspace(0, 1, 101, dtype=torch.float64):
            x = low + share * (high - low)
            f = activation.apply(x)
            below, above = (lines.lower_slope * x + lines.lower_offset, lines.upper_slope * x + lines.upper_offset)
            worst = max(worst, float((below - f).max()), float((f - above).max()))
    return worst


@pytest.mark.parametrize("kind", [Relu, Sigmoid])
def test_lines_lie_on_their_side_of_the_function_and_touch_it(kind, monkeypatch):
    assert -1e-3 < crossing(kind()) < 1e-12
    right = kind.lines
    monkeypatch.setattr(kind, "lines", lambda *a: (found := right(*a))._replace(upper_slope=0.99 * found.upper_slope))
    assert crossing(kind()) > 1e-3


def test_rounding_is_part_of_the_bounds():
    """Sums that cancel: 1e9 - 1e9 + x loses x in float32, and half of its digits in float64."""
    weight = np.array([[1e9, -1e9, 1.0]], np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["z"], transB=1), helper.make_node("Relu", ["z"], ["y"])]
    network = onnx_reader.from_model(graphs.model(nodes, {"w": weight}, [1, 3]))
    x = torch.tensor([[[1 / 3, 1 / 3, 0.1]]], dtype=torch.float64)
    for method in METHODS:
        low, high = graphs.bounds(network, Region.box(x, x), method)
        assert low < 0.1 < high
        assert high - low < 1e-4


def test_a_slope_off_by_one_per_cent_is_noticed(monkeypatch):
    right = Relu.lines

    def wrong(self, low, high, place):
        lines = right(self, low, high, place)
        return lines._replace(upper_slope=0.99 * lines.upper_slope)

    made = [graphs.dense([2, 4, 1], seed) for seed in range(20)]
    region = region_of([1, 2], 0, "linf", 0.5)
    assert max(graphs.outside(one, region, "crown", n=500) for one in made) <= 0
    monkeypatch.setattr(Relu, "lines", wrong)
    assert max(graphs.outside(one, region, "crown", n=500) for one in made) > 0


def test_a_missing_pad_is_noticed(monkeypatch):
    right = Convolution.transpose

    def wrong(self, a):
        return (right(self, a)[0].roll(1, dims=-1),)

    nodes = [helper.make_node("Conv", ["x", "w"], ["z"], pads=[1, 1, 1, 1]), helper.make_node("Flatten", ["z"], ["y"])]
    weight = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype(np.float32)
    made = graphs.model(nodes, {"w": weight}, [1, 1, 4, 4])
    region = region_of([1, 1, 4, 4], 0, "linf", 0.05)
    assert graphs.outside(made, region, "crown") <= 0
    monkeypatch.setattr(Convolution, "transpose", wrong)
    assert graphs.outside(made, region, "crown") > 0


def test_a_wrong_window_of_max_pool_is_noticed(monkeypatch):
    right = rules_activation._inside
    nodes = [
        helper.make_node("MaxPool", ["x"], ["z"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["z"], ["y"]),
    ]
    made = graphs.model(nodes, {}, [1, 1, 6, 6])
    region = region_of([1, 1, 6, 6], 0, "linf", 0.05)
    assert graphs.outside(made, region, "interval") <= 0
    monkeypatch.setattr(rules_activation, "_inside", lambda taps, size: right(taps, size)[:-1])
    assert graphs.outside(made, region, "interval") > 0


def test_interval_arithmetic_of_an_activation_that_was_rewritten_loses_nothing():
    """max(a, b) = b + relu(a - b) would cost intervals their width; the monotone function does not."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["z"], kernel_shape=[2, 2]),
        helper.make_node("Clip", ["z", "a", "b"], ["y"]),
    ]
    made = graphs.model(nodes, {"a": np.float32(0.2), "b": np.float32(0.9)}, [1, 1, 4, 4])
    region = region_of([1, 1, 4, 4], 0, "linf", 0.05)
    low, high = graphs.bounds(onnx_reader.from_model(made), region, "interval")
    assert np.allclose(low, graphs.served(made, region.lower.numpy())[0], atol=1e-6)
    assert np.allclose(high, graphs.served(made, region.upper.numpy())[0], atol=1e-6)


def test_a_nan_bounds_nothing():
    nodes = [helper.make_node("Gemm", ["x", "w"], ["z"], transB=1), helper.make_node("Relu", ["z"], ["y"])]
    made = graphs.model(nodes, {"w": np.array([[np.inf, 1.0]], np.float32)}, [1, 2])
    region = region_of([1, 2], 0, "linf", 0.5)
    state = linearise(onnx_reader.from_model(made), region)
    assert not (state.lower(torch.ones(1, 1, 1, dtype=torch.float64)) > -1e30).any()
