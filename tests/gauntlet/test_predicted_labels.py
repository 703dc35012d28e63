"""Gradients and answers that are not numbers: attacks get past the former, the latter are results with a name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper

from gauntlet import python_api
from gauntlet.attacks import ATTACKS
from gauntlet.attacks.base import LARGEST, usable
from gauntlet.certify.smoothing import certify
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.evaluation import referee
from gauntlet.predicted_labels import labels
from gauntlet.report.schema import Report
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import NORMS, Threat, unit
from gauntlet.unanswered_label import UNANSWERED
from tests import adopted, zoo

CASE = Path(__file__).parents[1] / "cases" / "sqrt-first.onnx"
EPS = {"linf": 0.05, "l2": 1.0, "l1": 10.0, "l0": 30}


def opened(data: bytes) -> Classifier:
    return adopted.opened(data, pixel_range="0..1")


def blind_above(limit: float) -> bytes:
    """A linear classifier of three classes, whose first logit is NaN for images of a mean above the limit."""
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["limit", "mean"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Mul", ["root", "first"], ["bent"]),
        helper.make_node("Add", ["z", "bent"], ["y"]),
    ]
    weights = {
        "w": draw.normal(size=(64, 3)).astype(np.float32),
        "limit": np.asarray(limit, np.float32),
        "first": np.asarray([1, 0, 0], np.float32),
    }
    return zoo.build(nodes, weights, ["n", 1, 8, 8], ["n", 3])


@pytest.fixture(scope="module")
def blind() -> Classifier:
    return opened(blind_above(0.8))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """The second is answered with NaN."""
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[1] = 0.95
    return (x * 255).round() / 255


@pytest.fixture(scope="module")
def rooted() -> Classifier:
    return opened(CASE.read_bytes())


@given(
    arrays.arrays(
        np.float32, (3, 1, 2, 2), elements=st.one_of(st.floats(width=32), st.sampled_from([0, np.inf, -np.inf, np.nan]))
    )
)
def test_a_usable_gradient_is_finite_and_points_where_the_gradient_did(raw: np.ndarray):
    gradient = torch.from_numpy(raw)
    found = usable(gradient)
    assert bool((found.abs() <= LARGEST * 1.001).all())
    assert bool(unit(found).isfinite().all())
    assert bool(found.flatten(1).norm(dim=1).isfinite().all())
    numbers = ~gradient.isnan() & (found != 0)
    assert torch.equal(found.sign()[numbers], gradient.sign()[numbers])
    infinite = gradient.isinf()
    assert bool((found[infinite].abs() > 0).all())
    top = found.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1).expand_as(found)
    assert torch.equal(found.abs()[infinite], top[infinite])


GRADIENT = [(name, norm) for name, entry in ATTACKS.items() for norm in NORMS if norm in entry.norms]


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name, norm in GRADIENT if ATTACKS[name].access == "gradient" and name != "strongest"],
)
def test_every_attack_gets_past_infinite_gradients(rooted: Classifier, name: str, norm: str):
    """Half of the pixels are black, and the square root is infinitely steep there; PGD breaks all of them."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, 28, 28, generator=draw) * (torch.rand(3, 1, 28, 28, generator=draw) < 0.5)
    x[0] = 0
    y = rooted.predict(x).argmax(dim=1)
    params = {"steps": 40} if name == "cw" else {}
    broken = int(referee.run(rooted, name, x, y, Threat(norm, EPS[norm]), params=params).success.sum())
    assert broken >= (2 if name == "cw" else 3)  # CW moves tanh(w): a black pixel hardly moves there


def test_an_answer_that_is_no_number_is_no_class():
    logits = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [torch.inf, 1.0], [-torch.inf, 1.0]])
    assert labels(logits).tolist() == [1, UNANSWERED, UNANSWERED, UNANSWERED]


@pytest.mark.parametrize("name", ["pgd", "fmn", "square", "hopskipjump", "noise"])
def test_an_image_without_an_answer_is_wrong_and_its_neighbours_are_attacked(blind, images, name: str):
    y = labels(blind.predict(images))
    assert y.tolist()[1] == UNANSWERED
    outcome = referee.run(blind, name, images, y, Threat("l2", 4.0))
    alone = referee.run(blind, name, images[[0, 2, 3]], y[[0, 2, 3]], Threat("l2", 4.0), index=torch.tensor([0, 2, 3]))
    assert outcome.correct.tolist() == [True, False, True, True]
    assert outcome.clean_label[1] == UNANSWERED
    assert not outcome.success[1]
    assert outcome.success[[0, 2, 3]].tolist() == alone.success.tolist()
    assert bool((outcome.adversarial_label[outcome.success] != UNANSWERED).all())
    assert bool(labels(blind.predict(outcome.images))[outcome.success].ne(UNANSWERED).all())


def test_nothing_is_certified_of_an_answer_that_is_no_class(blind, images):
    found = certify(blind.predict, images, Smoothing(sigma=0.05, samples=50, guess=10, alpha=0.01))
    assert found.label[1] == UNANSWERED
    assert found.radius[1] == 0
    assert bool((found.radius[[0, 2, 3]] > 0).any())
    linear = opened(zoo.dense((1, 8, 8)))
    logits = linear.predict(images[:2])
    logits[1, 0] = torch.nan
    radius = linear.certificate.radius(logits)
    assert radius is not None
    assert radius[0] > 0
    assert radius[1] == 0


def test_a_report_names_the_images_without_an_answer(blind, images):
    y = labels(blind.predict(images)).clamp_min(0)
    made = python_api.robustness_report(
        [blind], images.numpy(), y.numpy(), attacks=["fgsm"], threats=[{"norm": "l2", "eps": [0.5]}]
    )
    (model,) = made.models
    assert (model.clean.k, model.clean.n) == (3, 4)
    (check,) = [check for check in model.checks if check.name == "every image is answered"]
    assert not check.passed
    assert check.measured == "no answer to 1 of 4 images: 1"
    assert model.margins.n == 3
    assert Report.model_validate_json(made.model_dump_json()) == made
