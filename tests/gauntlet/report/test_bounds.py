"""Bounds in a report: nearly exact of linear models, the best proof counts, and an unsound rule is an alarm."""

import json

import numpy as np
import pytest
import torch

from gauntlet.artifacts import artefact_folders
from gauntlet.bounds import onnx_reader
from gauntlet.bounds.linear_operators import Dense
from gauntlet.bounds.region import Region
from gauntlet.report import bounded_radii
from gauntlet.report.build import build, cells, cost
from gauntlet.report.page import command, render
from gauntlet.report.requirements import failures, parse
from gauntlet.report.schema import Report, ReportRequest
from gauntlet.runtime import classifier
from tests.gauntlet.conftest import exact_distances

N, CROWN = 16, 6
EPS = {"l2": 0.1, "linf": 0.02}
CERTIFICATE = "no attack inside a certificate"
SMALL = {
    "models": ["tiny-a"],
    "n": N,
    "attacks": ["fmn", "ddn"],
    "threats": [{"norm": norm, "eps": [eps]} for norm, eps in EPS.items()],
    "bounds": {"images": CROWN},
}


@pytest.fixture(scope="module")
def wanted(asked) -> ReportRequest:
    return ReportRequest.model_validate(asked.model_dump() | SMALL)


@pytest.fixture(scope="module")
def made(wanted, models, evalsets) -> Report:
    return build(wanted, models, evalsets)


def points(report: Report, kind: str, norm: str) -> dict[float, int]:
    curves = [curve for curve in report.models[0].curves if (curve.kind, curve.norm) == (kind, norm)]
    return {point.eps: point.rate.k for point in curves[0].points}


def check(report: Report, name: str) -> bool:
    return next(check.passed for check in report.models[0].checks if check.name == name)


def test_they_are_a_cell_of_their_own_with_its_price(wanted):
    keys = [cell.key for cell in cells(wanted)]
    assert "tiny-a/bounds" in keys
    without = wanted.model_copy(update={"bounds": None})
    assert [key for key in keys if key != "tiny-a/bounds"] == [cell.key for cell in cells(without)]
    assert cost(wanted) - cost(without) == bounded_radii.cost(wanted.bounds, N, 2)


def test_the_linf_curve_of_a_linear_model_is_its_closed_form(made, models, evalsets):
    x, y = map(torch.from_numpy, evalsets["tiny"].head(N))
    logits = models["tiny-a"].predict(x)
    right = logits.argmax(dim=1) == y
    exact = exact_distances(models["tiny-a"], x, logits.argmax(dim=1), "linf")
    for eps, count in points(made, "certified", "linf").items():
        assert int((right & (exact >= 1.01 * eps)).sum()) <= count <= int((right & (exact >= eps)).sum())
    [curve] = [c for c in made.models[0].curves if (c.kind, c.norm) == ("certified", "linf")]
    assert curve.derived_from is None


def test_the_best_proof_of_each_image_counts_and_images_without_one_are_counted(made, wanted, models, evalsets):
    plain = build(wanted.model_copy(update={"bounds": None}), models, evalsets)
    for norm in EPS:
        more, fewer = (points(report, "certified", norm) for report in (made, plain))
        assert all(more[eps] >= fewer[eps] for eps in fewer)
    assert sum(points(made, "certified", "linf").values()) > sum(points(plain, "certified", "linf").values())
    for band in made.models[0].bands:
        assert band.certified + band.broken + band.neither == N
        assert band.certified == points(made, "certified", band.norm)[band.eps]
        assert N - band.broken == points(made, "robust", band.norm)[band.eps]
    assert (
        parse(f"certified(linf)@{EPS['linf']}>=0.1").rate(made.models[0]).k == points(made, "certified", "linf")[0.02]
    )


def test_sound_bounds_raise_no_alarm_and_the_page_tells_of_them(made):
    assert made.sound
    page = render(made)
    assert "Between proof and attack" in page
    assert "interval" in page
    assert "--bounds 6" in command(made)
    assert Report.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize("share", [0.99, 0.5])
def test_a_planted_unsound_rule_is_an_alarm(wanted, roots, evalsets, monkeypatch, share):
    """A linear layer whose |W| is too small: radii too large by as much."""
    honest = Dense.magnitude
    monkeypatch.setattr(Dense, "magnitude", lambda self, *x: share * honest(self, *x))
    monkeypatch.setattr(Region, "minimum", lambda self, a: plainly(self, a, share))
    models = {"tiny-a": classifier.open_model(artefact_folders.load(roots[0] / "tiny-a"), "cpu")}
    found = build(wanted, models, evalsets)
    assert not check(found, CERTIFICATE)
    assert found.models[0].certificate.contradictions > 0


def plainly(region: Region, a: torch.Tensor, share: float) -> torch.Tensor:
    flat, base = a.flatten(2), region.centre.flatten(1)[:, None]
    low, high = (share * (end.flatten(1)[:, None] - base) for end in (region.lower, region.upper))
    return (flat * base).sum(2) + torch.minimum(flat * low, flat * high).sum(2)


def test_a_model_that_cannot_be_bounded_says_why_and_misses_requirements(wanted, roots, evalsets, monkeypatch):
    monkeypatch.setattr(onnx_reader, "RULES", {})
    models = {"tiny-a": classifier.open_model(artefact_folders.load(roots[0] / "tiny-a"), "cpu")}
    found = build(wanted, models, evalsets)
    assert found.sound
    assert "there is no rule for Gemm" in str(found.models[0].bounds.reason)
    assert "there is no rule for Gemm" in render(found)
    assert found.models[0].bounds.methods == []
    assert len(failures(found, [parse("certified(linf)@0.3>=0.9")])) == 1


def test_reports_from_before_are_still_read(made):
    told = json.loads(made.model_dump_json())
    del told["request"]["bounds"], told["models"][0]["bounds"], told["models"][0]["bands"]
    old = Report.model_validate(told)
    assert old.models[0].bands == []
    assert "Between proof and attack" not in render(old)


def test_radii_are_those_of_the_answer_also_where_it_is_wrong(models, wanted):
    x = torch.from_numpy(np.random.default_rng(2).uniform(0.3, 0.7, (5, 1, 8, 8)).astype(np.float32))
    found = bounded_radii.measure(
        models["tiny-a"], x, wanted.bounds, [("linf", 1e-3)], check_cancelled=lambda: None, on_images=lambda _: None
    )
    exact = exact_distances(models["tiny-a"], x, models["tiny-a"].predict(x).argmax(1), "linf")
    radii = torch.tensor(next(part.radii for part in found.radii if part.method == "interval"))
    assert ((radii <= exact) & (radii >= 0.98 * exact)).all()
