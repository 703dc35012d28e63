"""Slopes are lower bounds, near the truth, and cost a few passes however many classes and pixels there are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from gauntlet import python_api
from gauntlet.evaluation import local_slopes, referee
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.runtime.classifier import Classifier
from gauntlet.sandbox.fork_server import ForkServer, Limits
from gauntlet.threat import Threat
from tests import adopted, sandboxed, zoo

CASE = Path(__file__).parents[2] / "cases" / "inet-plain.onnx"


def dense(classes: int, pixels: int = 8) -> bytes:
    """tanh(x W1) W2 of images (1, pixels, pixels)."""
    draw = np.random.default_rng(classes)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w1"], ["m"]),
        helper.make_node("Tanh", ["m"], ["h"]),
        helper.make_node("MatMul", ["h", "w2"], ["y"]),
    ]
    weights = {
        "w1": (draw.normal(size=(pixels**2, 24)) / pixels).astype(np.float32),
        "w2": draw.normal(size=(24, classes)).astype(np.float32),
    }
    return zoo.build(nodes, weights, ["n", 1, pixels, pixels], ["n", classes])


def opened(data: bytes) -> Classifier:
    return adopted.opened(data, pixel_range="0..1")


def exact(model: Classifier, image: torch.Tensor) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda x: model.twin(x[None])[0], image).flatten(1)
    return float(torch.linalg.matrix_norm(jacobian.double(), ord=2))


@pytest.mark.parametrize("classes", [2, 10, 16, 17, 100, 1000])
def test_a_slope_is_the_jacobians_norm_from_below(classes: int):
    model = opened(dense(classes))
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = local_slopes.local_slopes(model, x, 0)
    assert model.certificate.lipschitz is not None
    for image, slope in zip(x, found, strict=True):
        assert 0.9 * exact(model, image) <= slope <= model.certificate.lipschitz


@pytest.mark.parametrize("classes", [20, 200, 2000])
def test_the_passes_do_not_grow_with_the_classes(classes: int, monkeypatch: pytest.MonkeyPatch):
    model = opened(dense(classes))
    backward, forward = [], []
    products, twin = local_slopes._products, model.twin
    monkeypatch.setattr(local_slopes, "_products", lambda *args: backward.append(1) or products(*args))
    model.twin = lambda x: forward.append(1) or twin(x)
    local_slopes.local_slopes(model, torch.rand(5, 1, 8, 8), 0)
    assert len(backward) == 3 * local_slopes.STEPS
    assert len(forward) == 3 * (local_slopes.STEPS + 1)


def test_infinite_gradients_leave_a_finite_slope():
    nodes = [
        helper.make_node("Sqrt", ["x"], ["s"]),
        helper.make_node("Flatten", ["s"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    for classes in (4, 40):
        weights = {"w": np.random.default_rng(0).normal(size=(64, classes)).astype(np.float32)}
        model = opened(zoo.build(nodes, weights, ["n", 1, 8, 8], ["n", classes]))
        x = torch.zeros(2, 1, 8, 8)
        assert all(np.isfinite(slope) and slope > 0 for slope in local_slopes.local_slopes(model, x, 0))


def test_a_thousand_classes_of_large_images_fit_into_little_memory():
    """A full Jacobian of one image would be 600 MB."""
    fork_server = ForkServer(Limits(memory=500 * 2**20, threads=1))
    guest = sandboxed.opened(fork_server, CASE.read_bytes(), ModelSettings(name="inet"))
    assert guest.manifest.gradients == "verified"
    assert guest.slope is not None
    assert guest.certificate.lipschitz is not None
    assert 0 < guest.slope <= guest.certificate.lipschitz
    x = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    y = guest.predict(x).argmax(dim=1)
    assert bool(referee.run(guest, "pgd", x, y, Threat("linf", 0.1), params={"steps": 5}).success.all())
    guest.close()
    fork_server.close()


def test_a_thousand_classes_are_reported_on():
    model = opened(dense(1000))
    x = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 8)).astype(np.uint8)
    y = model.predict(torch.from_numpy(x / np.float32(255))).argmax(dim=1)
    made = python_api.robustness_report([model], x, y, attacks=["fgsm"], threats=[{"norm": "linf", "eps": [0.1]}])
    assert made.models[0].clean.value == 1
    assert 0 < made.models[0].certificate.steepest <= made.models[0].certificate.lipschitz
