"""The smoothed classifier in a report: a curve of its own, and a check that a radius too large does not pass."""

import json

import pytest
import torch

from gauntlet.certify.smoothing import Smoothed, certify
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.errors import InvalidInput
from gauntlet.report import smoothed_classifier
from gauntlet.report.build import build, cells, cost, validate
from gauntlet.report.compare import Comparison, compare
from gauntlet.report.page import command, render
from gauntlet.report.requirements import parse
from gauntlet.report.schema import Report, ReportRequest
from gauntlet.report.wording import verdict

IMAGES, N = 10, 16
NAME = "the smoothed classifier keeps its label"
SMALL = {"models": ["tiny-a"], "n": N, "attacks": ["ddn"], "threats": [{"norm": "l2", "eps": [0.1]}]}


@pytest.fixture(scope="module")
def wanted(asked) -> ReportRequest:
    smoothing = {"sigma": 0.2, "samples": 1_000, "images": IMAGES}
    return ReportRequest.model_validate(asked.model_dump() | SMALL | {"smoothing": smoothing})


@pytest.fixture(scope="module")
def made(wanted, models, evalsets) -> Report:
    return build(wanted, models, evalsets)


def test_it_is_a_cell_of_its_own_with_its_price(wanted):
    keys = [cell.key for cell in cells(wanted)]
    assert "tiny-a/smoothing" in keys
    without = wanted.model_copy(update={"smoothing": None})
    assert [key for key in keys if key != "tiny-a/smoothing"] == [cell.key for cell in cells(without)]
    assert cost(wanted) - cost(without) == IMAGES * (1_100 + 100 + smoothed_classifier.DRAWS)


def test_its_curve_is_apart_from_what_is_proved_and_below_it_for_a_linear_model(made, models, evalsets):
    (model,) = made.models
    curves = {curve.kind: {p.eps: p.rate for p in curve.points} for curve in model.curves if curve.norm == "l2"}
    assert curves.keys() == {"robust", "certified", "smoothed"}
    assert {rate.n for rate in curves["certified"].values()} == {N}
    assert {rate.n for rate in curves["smoothed"].values()} == {IMAGES}
    x, y = map(torch.from_numpy, evalsets["tiny"].head(IMAGES))
    logits = models["tiny-a"].predict(x)
    exact, right = models["tiny-a"].certificate.radius(logits), logits.argmax(dim=1) == y
    for eps, rate in curves["smoothed"].items():
        assert rate.k <= int((right.numpy() & (exact >= eps * 0.999)).sum())
    assert curves["smoothed"][0.1].k > 0
    assert parse("certified(l2)@0.1>=0.1").rate(model) == curves["certified"][0.1]
    assert model.smoothed.accuracy.k == curves["smoothed"][0.0].k
    assert model.smoothed.smoothing.sigma == 0.2


def test_sound_certificates_raise_no_alarm_and_the_page_tells_of_them(made):
    (check,) = [check for check in made.models[0].checks if check.name == NAME]
    assert check.passed
    assert made.sound
    page = render(made)
    assert "<h2>Randomized smoothing</h2>" in page
    assert 'class="smoothed"' in page
    assert "--smoothing" in command(made)
    assert "sigma=0.2" in command(made)
    assert any("half of the first 10 are robust " in finding.text for finding in verdict(made))
    assert Report.model_validate_json(made.model_dump_json()) == made
    assert "Randomized smoothing" not in render(without(made))


def without(made: Report) -> Report:
    told = json.loads(made.model_dump_json())
    told["request"]["smoothing"] = told["models"][0]["smoothed"] = None
    told["models"][0]["curves"] = [curve for curve in told["models"][0]["curves"] if curve["kind"] != "smoothed"]
    return Report.model_validate(told)


def test_radii_that_are_too_large_are_an_alarm(wanted, models, evalsets, monkeypatch):
    def boastful(*args, **options) -> Smoothed:
        found = certify(*args, **options)
        return Smoothed(found.label, 3 * found.radius)

    monkeypatch.setattr(smoothed_classifier, "certify", boastful)
    made = build(wanted, models, evalsets)
    (check,) = [check for check in made.models[0].checks if check.name == NAME]
    assert not check.passed
    assert not made.sound


def test_where_it_abstains_there_is_nothing_to_show(models, evalsets):
    x = torch.from_numpy(evalsets["tiny"].head(4)[0])
    found = smoothed_classifier.measure(
        models["tiny-a"],
        x,
        Smoothing(sigma=10, samples=100, alpha=1e-9),
        seed=0,
        check_cancelled=lambda: None,
        on_images=lambda _: None,
    )
    assert found.labels == [-1] * 4
    assert found.shown == found.kept == found.inside == []
    assert not torch.tensor(found.radii).any()


def test_a_model_trained_without_noise_needs_a_sigma(wanted, models, evalsets):
    asked = wanted.model_copy(update={"smoothing": wanted.smoothing.model_copy(update={"sigma": None})})
    with pytest.raises(InvalidInput) as refused:
        validate(asked, models, evalsets)
    assert refused.value.field == "smoothing.sigma"


def test_only_models_that_were_smoothed_alike_are_compared(made):
    assert compare(made, made, 0.0) == compare(without(made), made, 0.0) == Comparison([], [])
    with pytest.raises(InvalidInput, match="smooth their models differently"):
        compare(made, without(made), 0.0)
