"""Certificates are sound, come from the weights, and notice when the weights change."""

import dataclasses
from functools import partial

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch.nn import functional

from gauntlet.certify import lipschitz, spectral_norms
from gauntlet.evaluation import referee
from gauntlet.threat import Threat
from tests import tiny
from tests.gauntlet.conftest import exact_distances, labels_of, opened


@pytest.mark.parametrize(
    ("out", "into", "k", "size", "stride", "padding", "dilation", "groups"),
    [
        (4, 3, 3, 7, 1, 1, 1, 1),
        (4, 3, 3, 8, 2, 1, 1, 1),
        (5, 2, 2, 7, 2, 0, 1, 1),
        (4, 4, 3, 9, 2, 2, 2, 2),
        (3, 2, 5, 6, 3, 4, 1, 1),
        (2, 6, 2, 6, 1, 0, 1, 2),
    ],
)
def test_convolution_bound_is_sound_and_tight(out, into, k, size, stride, padding, dilation, groups):
    kernel = torch.from_numpy(np.random.default_rng(0).normal(size=(out, into // groups, k, k)))
    basis = torch.eye(into * size * size, dtype=torch.float64).view(-1, into, size, size)
    matrix = functional.conv2d(basis, kernel, None, stride, padding, dilation, groups).flatten(1)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    bound = spectral_norms.convolution(
        kernel.numpy(),
        size=(size, size),
        stride=(stride,) * 2,
        padding=(padding,) * 4,
        dilation=(dilation,) * 2,
        groups=groups,
    )
    assert exact <= bound <= 1.25 * exact


def test_linear_radius_is_the_exact_distance(linear, images):
    logits = linear.predict(images)
    exact = exact_distances(linear, images, logits.argmax(dim=1), "l2")
    ratio = linear.certificate.radius(logits) / exact.numpy()
    assert ratio.max() <= 1
    assert np.median(ratio) > 0.99


@pytest.mark.parametrize("attack", ["cw", "ddn", "pgd"])
def test_no_attack_succeeds_within_the_radius(convolutional, images, attack):
    x = images[:8]
    y = labels_of(convolutional, x)
    radii = convolutional.certificate.radius(convolutional.predict(x))
    assert float(radii.min()) > 0
    params = {"searches": 5, "steps": 100} if attack == "cw" else {"steps": 100}
    for i, radius in enumerate(radii.tolist()):
        one = slice(i, i + 1)
        inside = referee.run(convolutional, attack, x[one], y[one], Threat("l2", 0.999 * radius), params=params)
        assert not inside.success.any()


@pytest.mark.parametrize(("factor", "caught"), [(1.2, True), (2.0, True), (10.0, True), (1.0, False)])
def test_an_understated_constant_is_caught(linear, images, factor, caught):
    """On a linear model the proved radius is exact, so a claim that is too small by a fifth meets a counterexample."""
    honest = linear.certificate
    lie = dataclasses.replace(honest, pairwise=honest.pairwise / factor)
    radii = lie.radius(linear.predict(images))
    outcome = referee.run(
        linear, "cw", images, labels_of(linear, images), Threat("l2"), params={"searches": 9, "steps": 300}
    )
    assert bool((outcome.minimal["l2"].numpy() < radii).any()) is caught


def test_editing_one_weight_changes_the_constant(tmp_path):
    folder = tiny.convolutional(tmp_path / "model")
    before = lipschitz.prove(folder / "model.onnx").lipschitz
    model = onnx.load(folder / "model.onnx")
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "k")
    values = onnx.numpy_helper.to_array(kernel).copy()
    values.flat[0] += 1.0
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, "k"))
    onnx.save(model, folder / "model.onnx")
    assert lipschitz.prove(folder / "model.onnx").lipschitz != before


def test_the_bound_holds_for_jacobians(convolutional, images):
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: convolutional.twin(x[None])[0]))(images[:6])
    norms = torch.linalg.matrix_norm(jacobian.flatten(2), 2)
    assert float(norms.max()) <= convolutional.certificate.lipschitz
    assert float(norms.max()) > convolutional.certificate.lipschitz / 4


def test_maxmin_is_recognised_and_a_lookalike_is_not(tmp_path):
    """Max and Min of the same halves keep the bound; Max twice may double a value and must cost more."""
    folder = tiny.convolutional(tmp_path / "model")
    sorted_pairs = lipschitz.prove(folder / "model.onnx").lipschitz
    model = onnx.load(folder / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "Min").op_type = "Max"
    onnx.save(model, tmp_path / "lookalike.onnx")
    assert lipschitz.prove(tmp_path / "lookalike.onnx").lipschitz == pytest.approx(2 * sorted_pairs)


def chain(path, *nodes, weights=None, y=(64,)):
    return tiny.save_graph(path, list(nodes), weights or {}, tiny.SHAPE, y)


@pytest.mark.parametrize(
    ("node", "bound", "y"),
    [
        (helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), 1.0, 16),
        (helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[3, 3], strides=[1, 1]), 3.0, 36),
        (helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), 0.5, 16),
        (helper.make_node("GlobalAveragePool", ["x"], ["p"]), 1 / 8, 1),
        (helper.make_node("Relu", ["x"], ["p"]), 1.0, 64),
        (helper.make_node("Add", ["x", "x"], ["p"]), 2.0, 64),
        (helper.make_node("Max", ["x", "x"], ["p"]), 2**0.5, 64),
    ],
)
def test_rules(tmp_path, node, bound, y):
    path = chain(tmp_path / "g.onnx", node, helper.make_node("Flatten", ["p"], ["y"]), y=(y,))
    assert lipschitz.prove(path).lipschitz == pytest.approx(bound)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (helper.make_node("Exp", ["x"], ["p"]), "Exp"),
        (helper.make_node("Mul", ["x", "x"], ["p"]), "Mul"),
        (helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "AveragePool"),
        (helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[3, 3], auto_pad="SAME_UPPER"), "AveragePool"),
    ],
)
def test_what_has_no_rule_gets_no_certificate_and_a_reason(tmp_path, node, reason):
    path = chain(tmp_path / "g.onnx", node, helper.make_node("Flatten", ["p"], ["y"]))
    certificate = lipschitz.prove(path)
    assert certificate.lipschitz is None
    assert certificate.radius(torch.zeros(1, 64)) is None
    assert reason in certificate.reason


def test_noise_from_nowhere_is_refused(tmp_path):
    """A node that does not read the image is not for that reason a constant."""
    nodes = [
        helper.make_node("RandomNormal", [], ["noise"], shape=[1, 1, 8, 8]),
        helper.make_node("Add", ["x", "noise"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    certificate = lipschitz.prove(chain(tmp_path / "g.onnx", *nodes))
    assert certificate.lipschitz is None
    assert "RandomNormal" in certificate.reason


def test_a_matrix_of_three_dimensions_is_refused(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    path = chain(tmp_path / "g.onnx", *nodes, weights={"w": np.ones((1, 8, 8), np.float32)})
    assert "3 dimensions" in lipschitz.prove(path).reason


def test_broadcasting_that_copies_values_is_refused(tmp_path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["g"]),
        helper.make_node("Add", ["g", "zeros"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    path = chain(tmp_path / "g.onnx", *nodes, weights={"zeros": np.zeros((1, 1, 8, 8), np.float32)})
    assert lipschitz.prove(path).lipschitz is None


def test_a_tie_has_radius_zero(convolutional):
    assert convolutional.certificate.radius(torch.zeros(2, 3)).tolist() == [0, 0]


def test_the_manifest_counts_for_nothing(tmp_path):
    a = opened(tiny.convolutional(tmp_path / "a"))
    folder = tiny.convolutional(tmp_path / "b")
    tiny.save_manifest(folder, kind="classifier", family="standard", input_shape=tiny.SHAPE, classes=tiny.CLASSES)
    assert opened(folder).certificate.lipschitz == a.certificate.lipschitz


def test_what_would_take_too_long_is_not_begun(monkeypatch, tmp_path):
    folder = tiny.convolutional(tmp_path / "tiny")
    monkeypatch.setattr(lipschitz, "MOST_OPERATIONS", 1e3)
    monkeypatch.setattr(lipschitz.spectral_norms, "convolution", lambda *_, **__: 1 / 0)
    certificate = lipschitz.prove(folder / "model.onnx")
    assert certificate.lipschitz is None
    assert "not attempted" in certificate.reason


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (1, 2), (4, 1)])
def test_the_price_of_a_convolution_grows_with_its_image_and_shrinks_with_its_groups(groups, stride):
    kernel = (16, 16 // groups, 3, 3)
    price = partial(spectral_norms.convolution_operations, stride=[stride] * 2, groups=groups)
    assert price(kernel, size=[64, 64]) == pytest.approx(4 * price(kernel, size=[32, 32]))
    whole = spectral_norms.convolution_operations((16, 16, 3, 3), size=[32, 32], stride=[stride] * 2)
    assert price(kernel, size=[32, 32]) <= whole
