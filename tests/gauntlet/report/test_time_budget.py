"""What of a report fits a time: fewer images first, then fewer attacks, never a norm without one; and it says so."""

import pytest
from pydantic import ValidationError

from gauntlet.attacks import ATTACKS
from gauntlet.checks import white_box
from gauntlet.report import plan, time_budget, wording
from gauntlet.report.build import build
from gauntlet.report.schema import ReportRequest

ASKED = ReportRequest(models=["m"], dataset="d", n=500)
PASS = 0.01  # seconds


@pytest.mark.parametrize("seconds", [100.0, 300.0, 1000.0, 3000.0])
@pytest.mark.parametrize("models", [1, 3])
def test_what_is_planned_costs_no_more_than_its_time(seconds: float, models: int):
    asked = ASKED.model_copy(update={"models": [f"m{i}" for i in range(models)]})
    made = time_budget.fit(asked, [PASS] * models, seconds).request
    assert plan.cost(made) * PASS <= seconds
    checks = sum(cell.cost for cell in plan.cells(made) if cell.kind == "checks")
    assert checks * PASS <= time_budget.CHECKS * seconds or made.checked == 1


def test_all_is_measured_where_there_is_time():
    made = time_budget.fit(ASKED, [PASS], 1e6)
    assert made.request.n == ASKED.n
    assert made.request.attacks == ASKED.attacks
    assert made.request.checked == white_box.EXAMINED
    assert made.left_out == ()


def test_images_are_left_out_before_attacks():
    some = time_budget.fit(ASKED, [PASS], 600.0)
    assert time_budget.FEWEST <= some.request.n < ASKED.n
    assert some.request.attacks == ASKED.attacks
    assert f"{ASKED.n - some.request.n} of 500 images" in some.left_out[0]


def test_then_the_dearest_attacks_but_no_norm_is_left_without_one():
    few = time_budget.fit(ASKED, [PASS], 20.0)
    assert len(few.request.attacks) < len(ASKED.attacks)
    for threat in ASKED.threats:
        assert any(threat.norm in ATTACKS[name].norms for name in few.request.attacks)
    gone = [name for name in ASKED.attacks if name not in few.request.attacks]
    assert all(name in few.left_out[0] for name in gone)
    assert few.request.n >= 1


def test_more_time_never_measures_less():
    plans = [time_budget.fit(ASKED, [PASS], seconds).request for seconds in (10.0, 30.0, 100.0, 300.0, 1000.0)]
    sizes = [(len(made.attacks), made.n, made.checked) for made in plans]
    assert [size[0] for size in sizes] == sorted(size[0] for size in sizes)
    assert [size[2] for size in sizes] == sorted(size[2] for size in sizes)


@pytest.mark.parametrize("seconds", [0, 0.5, -1, 1e9, float("inf"), float("nan"), True, "60"])
def test_a_budget_that_is_no_time_is_refused(seconds: object):
    with pytest.raises(ValidationError, match="budget_seconds"):
        ReportRequest.model_validate({"models": ["m"], "dataset": "d", "n": 5, "budget_seconds": seconds})


def test_a_report_with_a_budget_says_what_it_left_out(models, evalsets, asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time_budget, "seconds_per_pass", lambda model, x: PASS)
    request = asked.model_copy(update={"budget_seconds": 100.0})
    planned = time_budget.planned(request, models, evalsets["tiny"])
    assert planned.seconds <= 100.0
    assert planned.request.budget_seconds is None
    assert time_budget.planned(planned.request, models, evalsets["tiny"]).request == planned.request
    made = build(request, models, evalsets)
    assert made.request == planned.request
    assert made.request.n < asked.n
    assert made.left_out == list(planned.left_out)
    assert made.left_out[0] in [finding.text for finding in wording.verdict(made)]
