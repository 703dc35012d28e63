"""The interval graph in ONNX Runtime: never more than float64 intervals prove, hardly less, and no image disagrees."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from gauntlet.artifacts import onnx_file
from gauntlet.bounds import onnx_reader
from gauntlet.bounds.bounder import GraphBounder
from gauntlet.certify import interval_onnx_graph
from gauntlet.certify.graph_walk import Unprovable
from gauntlet.runtime.interval_radii import IntervalRadii, open_intervals
from tests import tiny

SHAPE, CLASSES, EPS = (1, 8, 8), 3, 0.02


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every operator that has a rule: normalised, convolved twice (padded, strided, dilated), two dense layers."""
    draw = np.random.default_rng(0)

    def real(*shape: int) -> np.ndarray:
        return (draw.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)

    weights = {
        "mean": np.float32(0.4),
        "std": np.full((1, 1, 1), -0.5, np.float32),
        "k1": real(6, 1, 3, 3),
        "kb1": real(6),
        "k2": real(4, 6, 2, 2),
        "w1": real(12, 24),
        "wb1": real(12),
        "twice": np.float32(-2),
        "more": real(12),
        "w2": real(CLASSES, 12),
        "wb2": real(CLASSES),
        "flat": np.array([-1, 24]),
    }
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"]),
        helper.make_node("Div", ["a", "std"], ["b"]),
        helper.make_node("Conv", ["b", "k1", "kb1"], ["c"], strides=[2, 2], pads=[1, 0, 2, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "k2"], ["e"], dilations=[2, 2]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("Reshape", ["f", "flat"], ["g"]),
        helper.make_node("Gemm", ["g", "w1", "wb1"], ["h"], transB=1),
        helper.make_node("Mul", ["h", "twice"], ["i"]),
        helper.make_node("Add", ["i", "more"], ["j"]),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "w2", "wb2"], ["y"], transB=1),
    ]
    file = tmp_path_factory.mktemp("graphs") / "model.onnx"
    tiny.save_graph(file, nodes, weights, SHAPE, (CLASSES,))
    return file


@pytest.fixture(scope="module")
def bounder(path: Path) -> GraphBounder:
    return GraphBounder(onnx_reader.read(path), CLASSES)


def batch(n: int = 40) -> np.ndarray:
    return np.random.default_rng(1).random((n, *SHAPE), dtype=np.float32)


def exact(bounder: GraphBounder, x: np.ndarray, labels: np.ndarray, eps: np.ndarray) -> np.ndarray:
    given = (torch.from_numpy(part) for part in (x, labels, eps.astype(np.float64)))
    return bounder.intervals(*given, torch.zeros(len(x))).numpy()


@pytest.mark.parametrize("eps", [0.0, 1e-3, EPS, 0.3, 2.0])
def test_margins_are_those_of_float64_less_rounding(path: Path, bounder: GraphBounder, eps: float):
    x = batch()
    labels, far = np.arange(len(x)) % CLASSES, np.full(len(x), eps, np.float32)
    found, wanted = IntervalRadii(path, EPS).margins(x, labels, far), exact(bounder, x, labels, far)
    assert (found <= wanted).all()
    assert (found >= wanted - 1e-3 * (1 + np.abs(wanted))).all()


def test_a_radius_is_proved_by_float64_and_close_to_what_is(path: Path, bounder: GraphBounder):
    x = batch()
    network = onnx_reader.read(path)
    logits = network(torch.from_numpy(x).double().view(len(x), *network.input_shape)).flatten(1).numpy()
    radii = IntervalRadii(path, EPS).radii(x, logits.astype(np.float32), np.full(len(x), 1e-4))
    labels = logits.argmax(1)
    assert (radii > 0).mean() > 0.9
    assert (exact(bounder, x, labels, radii) >= 1e-4).all()
    wide = np.minimum(1.3 * radii + 1e-3, 1)
    assert (exact(bounder, x, labels, wide) < 1e-4).mean() > 0.8


def test_an_image_without_an_answer_has_no_radius(path: Path):
    logits = np.array([[1, np.nan, 0], [np.inf, 0, 1]], np.float32)
    assert IntervalRadii(path, EPS).radii(batch(2), logits, np.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("planted", ["a slope off by 1 %", "weights with signs", "ReLU that stays on"])
def test_an_unsound_rule_is_seen(path: Path, bounder: GraphBounder, monkeypatch: pytest.MonkeyPatch, planted: str):
    rules = dict(interval_onnx_graph.RULES)

    def narrow(made, node):
        centre, radius = rules["Conv"](made, node)
        return interval_onnx_graph.Box(centre, made.scaled(radius, 0.99))

    def signed(made, node):
        with monkeypatch.context() as patch:
            patch.setattr(interval_onnx_graph.np, "abs", lambda x: x)
            return rules["Gemm"](made, node)

    def centred(made, node):
        low, high = rules["Relu"](made, node)
        return interval_onnx_graph.Ends(made.add("Max", low, made.scaled(high, 0.5)), high)

    wrong = {
        "a slope off by 1 %": ("Conv", narrow),
        "weights with signs": ("Gemm", signed),
        "ReLU that stays on": ("Relu", centred),
    }
    name, rule = wrong[planted]
    monkeypatch.setattr(interval_onnx_graph, "RULES", {**rules, name: rule})
    x = batch()
    labels, far = np.arange(len(x)) % CLASSES, np.full(len(x), 0.1, np.float32)
    assert (IntervalRadii(path, EPS).margins(x, labels, far) > exact(bounder, x, labels, far)).any()


def test_a_graph_without_rules_has_none(tmp_path: Path):
    folder = tiny.convolutional(tmp_path / "conv")
    with pytest.raises(Unprovable, match="there is no rule for Split"):
        interval_onnx_graph.interval_graph(onnx_file.read(folder / "model.onnx"))
    assert open_intervals(folder / "model.onnx", EPS) is None
