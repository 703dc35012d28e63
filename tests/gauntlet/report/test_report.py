"""What a report says follows from what was measured, whatever the order and the size of its pieces."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gauntlet.attacks import ATTACKS
from gauntlet.errors import Cancelled, InvalidInput
from gauntlet.evaluation import referee
from gauntlet.report import standards, wording
from gauntlet.report.build import assemble, build, cells, cost, measure, validate
from gauntlet.report.compare import Comparison, compare
from gauntlet.report.model_results import Measured, transferred
from gauntlet.report.page import render
from gauntlet.report.records import SmoothingSpec
from gauntlet.report.schema import CellResult, Report, ReportRequest
from gauntlet.threat import Threat
from tests.gauntlet.report.conftest import WRONG, N


def timeless(report):
    return re.sub(r'"seconds":[\d.]+', "", report.model_dump_json())


def test_cells_are_each_attack_where_it_works(asked):
    keys = [cell.key for cell in cells(asked) if cell.model == "tiny-a"]
    assert keys == [
        "tiny-a/clean",
        "tiny-a/checks",
        "tiny-a/pgd/l2/0.1",
        "tiny-a/pgd/l2/0.4",
        "tiny-a/ddn/l2",
        "tiny-a/pgd/linf/0.05",
    ]
    assert cost(asked) == sum(cell.cost for cell in cells(asked)) > 0


@pytest.mark.parametrize("norms", [["l2"], ["linf"], ["linf", "l2"], ["l1"], ["l0"]])
def test_who_names_no_attacks_gets_some_for_every_norm(asked, models, evalsets, norms):
    threats = [{"norm": norm, "eps": [0.1]} for norm in norms]
    request = ReportRequest.model_validate({"models": ["tiny-a"], "dataset": "tiny", "n": 3, "threats": threats})
    validate(request, models, evalsets)
    assert {cell.norm for cell in cells(request) if cell.norm} == set(norms)


def test_who_names_no_threats_gets_l2_and_linf(models, evalsets):
    request = ReportRequest(models=["tiny-a"], dataset="tiny", n=3)
    validate(request, models, evalsets)
    assert [threat.norm for threat in request.threats] == ["l2", "linf"]


def test_the_ensemble_is_measured_at_every_eps(asked):
    request = ReportRequest.model_validate({**asked.model_dump(), "attacks": ["strongest"]})
    found = [(cell.norm, cell.eps) for cell in cells(request) if cell.attack and cell.model == "tiny-a"]
    assert found == [("l2", 0.1), ("l2", 0.4), ("linf", 0.05)]


def test_order_of_results_and_a_trip_through_json_change_nothing(asked, results, models, evalsets, report):
    travelled = [CellResult.model_validate_json(result.model_dump_json()) for result in reversed(results)]
    assert assemble(asked, travelled, models, evalsets["tiny"]) == report


def test_chunking_changes_nothing(asked, results, models, evalsets):
    for result in (result for result in results if result.cell.model == "tiny-a"):
        again = measure(result.cell, asked, models, evalsets["tiny"], chunk=7)
        if result.clean is not None:
            assert again.clean.labels == result.clean.labels
            assert again.clean.radii == pytest.approx(result.clean.radii, rel=1e-4)
        elif result.checks is not None:
            assert again.checks == result.checks
        else:
            assert again.attack.broken == result.attack.broken
            assert again.attack.labels == result.attack.labels
            assert again.attack.queries == result.attack.queries
            assert again.attack.distances["l2"] == pytest.approx(result.attack.distances["l2"], abs=1e-4)


def test_a_missing_cell_is_named(asked, results, models, evalsets):
    with pytest.raises(ValueError, match="tiny-a/clean"):
        assemble(asked, results[1:], models, evalsets["tiny"])


def test_json_is_strict_and_comes_back(report):
    def refuse(word):
        raise AssertionError(word)

    json.loads(report.model_dump_json(), parse_constant=refuse)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_clean_accuracy_and_denominators(report):
    (model, _) = report.models
    assert (model.clean.k, model.clean.n) == (N - WRONG, N)
    for entry in model.robustness:
        assert entry.accuracy.n == N  # robust accuracy is over all samples
        assert entry.success.n == N - WRONG  # success over those right at first
        assert entry.accuracy.k == N - WRONG - entry.success.k


def test_robust_accuracy_is_what_the_referee_says(asked, report, models, evalsets):
    x, y = map(torch.from_numpy, evalsets["tiny"].head(N))
    outcome = referee.run(models["tiny-a"], "pgd", x, y, Threat("linf", 0.05), seed=asked.seed)
    (entry,) = [e for e in report.models[0].robustness if (e.norm, e.attack) == ("linf", "pgd")]
    assert entry.accuracy.k == int(outcome.robust.sum())


def test_the_worst_is_no_better_than_any(report):
    for model in report.models:
        for entry in model.robustness:
            (worst,) = [w for w in wording.worst(model, entry.norm) if w.eps == entry.eps]
            assert worst.accuracy.k <= entry.accuracy.k


def test_certified_never_exceeds_robust(report):
    for model in report.models:
        curves = {curve.kind: {p.eps: p.rate.k for p in curve.points} for curve in model.curves if curve.norm == "l2"}
        shared = curves["certified"].keys() & curves["robust"].keys()
        assert shared
        assert all(curves["certified"][eps] <= curves["robust"][eps] for eps in shared)
        assert model.certificate.contradictions == 0
        assert 1 <= model.certificate.ratio.median < 1.5  # linear: the certificate is nearly exact


def test_a_wrong_certificate_is_an_alarm(asked, results, models, evalsets, report):
    """Radii ten times too large, as an understated constant would give."""
    forged = [
        result
        if result.clean is None
        else result.model_copy(
            update={"clean": result.clean.model_copy(update={"radii": [10 * r for r in result.clean.radii]})}
        )
        for result in results
    ]
    found = assemble(asked, forged, models, evalsets["tiny"])
    assert report.sound
    assert not found.sound
    assert found.models[0].certificate.contradictions > 0
    assert any(finding.alarm for finding in wording.verdict(found))
    assert not any(finding.alarm for finding in wording.verdict(report))
    assert "Do not rely on the certificate" in render(found)


def test_a_constant_below_the_jacobian_is_an_alarm(asked, results, evalsets, models):
    honest = models["tiny-a"]

    class Liar:
        def __getattr__(self, name):
            return getattr(honest, name)

        certificate = dataclasses.replace(honest.certificate, lipschitz=honest.certificate.lipschitz / 1.2)

    found = assemble(asked, results, {**models, "tiny-a": Liar()}, evalsets["tiny"])
    assert found.models[0].certificate.refuted
    assert not found.sound


def only(asked, **fields):
    return ReportRequest.model_validate(asked.model_dump(mode="json") | {"n": 12} | fields)


def check(report, name):
    return next(check for check in report.models[0].checks if check.name == name)


def test_a_wrong_certificate_is_seen_without_minimum_norm_attacks_too(asked, models, evalsets):
    fixed = only(asked, models=["tiny-a"], attacks=["pgd"], threats=[{"norm": "linf", "eps": [0.05]}])
    made = [measure(cell, fixed, models, evalsets["tiny"]) for cell in cells(fixed)]
    assert check(assemble(fixed, made, models, evalsets["tiny"]), "certified below robust").passed
    forged = [
        result.model_copy(
            update={"clean": result.clean.model_copy(update={"radii": [100 * r for r in result.clean.radii]})}
        )
        if result.clean
        else result
        for result in made
    ]
    assert not check(assemble(fixed, forged, models, evalsets["tiny"]), "certified below robust").passed


@pytest.mark.parametrize(("attacks", "strong"), [(["noise", "fgsm"], False), (["noise", "apgd"], True)])
def test_robust_accuracy_against_weak_attacks_alone_is_an_alarm(asked, models, evalsets, attacks, strong):
    fixed = only(asked, models=["tiny-a"], attacks=attacks, threats=[{"norm": "l2", "eps": [0.1]}])
    report = build(fixed, models, evalsets)
    assert check(report, "iterative attacks were run").passed == strong == report.sound


def test_the_checks_search_refutes_a_certificate_that_no_attack_of_the_report_could(asked, models, evalsets):
    """Radii 1.2 times the distance to the boundary, of a linear model: only the nearest examples lie inside."""
    weak = only(asked, models=["tiny-a"], attacks=["noise", "apgd"], threats=[{"norm": "linf", "eps": [0.001]}])
    made = {cell: measure(cell, weak, models, evalsets["tiny"]) for cell in cells(weak)}
    honest = assemble(weak, list(made.values()), models, evalsets["tiny"])
    assert check(honest, "no attack inside a certificate").passed
    (first,) = (result for result in made.values() if result.clean)
    raised = first.clean.model_copy(update={"radii": [1.2 * r for r in first.clean.radii]})
    made[first.cell] = first.model_copy(update={"clean": raised})
    assert not check(
        assemble(weak, list(made.values()), models, evalsets["tiny"]), "no attack inside a certificate"
    ).passed


@pytest.mark.parametrize(("attacks", "enough"), [(["noise"], False), (["fmn"], True)])
def test_attacks_weaker_than_the_checks_search_are_an_alarm(asked, models, evalsets, attacks, enough):
    fixed = only(asked, models=["tiny-a"], attacks=attacks, threats=[{"norm": "l2", "eps": [0.3]}], n=N)
    report = build(fixed, models, evalsets)
    assert check(report, "the report's attacks beat the checks' search").passed == enough


def test_a_report_on_images_that_are_all_wrong_is_no_sound_one(asked, models, evalsets):
    fixed = only(asked, models=["tiny-a"], n=WRONG)
    report = build(fixed, models, evalsets)
    assert report.models[0].clean.k == 0
    assert not check(report, "there are images to attack").passed
    assert not report.sound


def test_an_ensemble_tells_its_members_and_what_each_broke(asked, models, evalsets):
    fixed = only(asked, models=["tiny-a"], attacks=["strongest"], threats=[{"norm": "l2", "eps": [0.3]}], n=8)
    report = build(fixed, models, evalsets)
    (record,) = report.attacks
    assert record.params["l2, within eps"]["square"] == ATTACKS["square"].settings | {"queries": 2000}
    (effort,) = (effort for effort in report.effort if effort.cell.kind == "attack")
    assert sum(effort.by.values()) == report.models[0].robustness[0].success.k > 0
    assert effort.by.keys() <= record.params["l2, within eps"].keys()


def test_an_example_at_the_very_budget_transfers(asked, models, evalsets):
    fixed = only(asked, attacks=["fgsm"], threats=[{"norm": "linf", "eps": [8 / 255]}], n=N)
    results = [measure(cell, fixed, models, evalsets["tiny"]) for cell in cells(fixed)]
    y = np.asarray(evalsets["tiny"].labels[:N])
    measured = {name: Measured.of(name, results, y) for name in fixed.models}
    (attack,) = measured["tiny-a"].attacks.values()
    assert max(attack.distances["linf"]) > 8 / 255  # as float32 adds
    found = transferred(measured, "tiny-b", "linf")
    assert np.isfinite(found).any()
    assert (found[np.isfinite(found)] <= 8 / 255).all()


def test_transfer_counts_among_what_the_target_gets_right(report, results, evalsets):
    matrix = next(m for m in report.transfer if (m.attack, m.norm) == ("ddn", "l2"))
    rate = next(r for r in matrix.rates if (r.source, r.target) == ("tiny-a", "tiny-b")).fooled
    attack = next(r for r in results if r.cell.key == "tiny-a/ddn/l2").attack
    clean = next(r for r in results if r.cell.key == "tiny-b/clean").clean
    y = evalsets["tiny"].labels[:N]
    right = [i for i in attack.broken if clean.labels[i] == y[i]]
    assert rate.n == len(right)
    assert rate.k == sum(attack.transfer["tiny-b"][attack.broken.index(i)] != y[i] for i in right)


def test_shared_medians_use_the_same_images(report):
    counts = {entry.shared.n for model in report.models for entry in model.perturbations}
    assert counts == {report.shared_correct}


def test_progress_rises_to_one_and_stop_ends_it(asked, models, evalsets):
    small = asked.model_copy(update={"n": 8})
    heard = []
    build(small, models, evalsets, on_progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1)

    def stop():
        raise Cancelled("no more")

    with pytest.raises(Cancelled):
        build(small, models, evalsets, check_cancelled=stop)


def test_same_request_same_report(asked, models, evalsets):
    small = only(asked, attacks=["pgd"], threats=[{"norm": "l2", "eps": [0.1]}], n=4)
    assert timeless(build(small, models, evalsets)) == timeless(build(small, models, evalsets))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"models": ["nobody"]}, "models.0"),
        ({"dataset": "nothing"}, "dataset"),
        ({"n": N + 1}, "n"),
        ({"attacks": ["pgd", "nothing"]}, "attacks.1"),
        ({"attacks": ["cw"], "threats": [{"norm": "linf", "eps": [0.1]}]}, "attacks.0"),
        ({"attacks": ["cw"]}, "threats.1.norm"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_field(asked, models, evalsets, change, field):
    request = ReportRequest.model_validate(asked.model_dump() | change)
    with pytest.raises(InvalidInput) as error:
        validate(request, models, evalsets)
    assert error.value.field == field


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"n": 10_001},
        {"models": []},
        {"models": ["a", "a"]},
        {"threats": [{"norm": "l2", "eps": [-1.0]}]},
        {"threats": [{"norm": "l2", "eps": [float("nan")]}]},
        {"threats": [{"norm": "l7", "eps": [1.0]}]},
        {"seed": -1},
        {"colour": "red"},
    ],
)
def test_nonsense_is_refused_by_the_schema(asked, change):
    with pytest.raises(ValidationError):
        ReportRequest.model_validate(asked.model_dump() | change)


def test_the_page_is_one_file_without_outside_resources(report):
    page = render(report)
    assert page == render(report)
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "<script" not in page
    assert "url(http" not in page
    assert page.count("<svg") >= 2
    assert report.models[0].sha256 in page


def test_names_on_the_page_are_escaped(report):
    evil = "<img src=x onerror=alert(1)>"
    model = report.models[0].model_copy(update={"name": evil})
    request = report.request.model_copy(update={"models": [evil, report.request.models[1]]})
    page = render(report.model_copy(update={"models": [model, report.models[1]], "request": request, "transfer": []}))
    assert evil not in page
    assert "&lt;img" in page


def test_compare_is_a_gate(report):
    assert compare(report, report, 0.0) == Comparison([], [])
    entry = report.models[0].robustness[0]
    weaker = entry.model_copy(
        update={"accuracy": entry.accuracy.model_copy(update={"value": entry.accuracy.value - 0.1})}
    )
    model = report.models[0].model_copy(update={"robustness": [weaker, *report.models[0].robustness[1:]]})
    worse = report.model_copy(update={"models": [model, report.models[1]]})
    (loss,) = compare(report, worse, 0.05).losses
    assert "robust accuracy at l2 0.1 fell" in loss
    assert compare(report, worse, 0.2) == Comparison([], [])
    assert compare(worse, report, 0.2) == Comparison([], [])
    better = compare(worse, report, 0.05)
    assert better.losses == []
    assert [gain.partition(" from ")[0] for gain in better.gains] == ["tiny-a: robust accuracy at l2 0.1 rose"]
    fewer = report.model_copy(update={"models": report.models[:1]})
    with pytest.raises(InvalidInput, match="tiny-b"):
        compare(report, fewer, 0.05)
    other = report.model_copy(update={"evalset": report.evalset.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(InvalidInput, match="different images"):
        compare(report, other, 0.05)
    gentler = report.attacks[0].model_copy(update={"params": {**report.attacks[0].params, "steps": 1}})
    eased = report.model_copy(update={"attacks": [gentler, *report.attacks[1:]]})
    with pytest.raises(InvalidInput, match=f"different attacks or parameters .{gentler.name}."):
        compare(report, eased, 0.05)


@pytest.mark.parametrize(
    ("eps", "written"),
    [
        (None, "any distance"),
        (0.8, "0.8"),
        (1.0, "1"),
        (8 / 255, "8/255"),
        (36 / 255, "36/255"),
        (1 / 3, "85/255"),
        (2 / 7, "0.2857"),
    ],
)
def test_budgets_are_written_as_people_write_them(eps, written):
    assert wording.budget(eps) == written


def test_curves_do_not_rise(report):
    for model in report.models:
        for curve in model.curves:
            assert np.all(np.diff([point.rate.k for point in curve.points]) <= 0)


def test_classes_add_up_to_the_whole(report):
    for model in report.models:
        assert sum(entry.clean.k for entry in model.classes) == model.clean.k
        assert sum(entry.clean.n for entry in model.classes) == report.request.n
        for place, whole in enumerate(entry for entry in model.robustness if entry.attack is None):
            parts = [entry.budgets[place] for entry in model.classes]
            assert {(part.norm, part.eps) for part in parts} == {(whole.norm, whole.eps)}
            assert sum(part.robust.k for part in parts) == whole.accuracy.k
            assert all(part.certified.k <= part.robust.k for part in parts)
        assert all(entry.taken_for != entry.label for entry in model.classes)


def test_what_is_certified_in_another_norm_is_derived_from_l2(report):
    """A ball of Linf of radius eps lies in an L2 ball of radius eps times the root of the 64 pixels."""
    for model in report.models:
        curves = {curve.norm: curve for curve in model.curves if curve.kind == "certified"}
        assert (curves["l2"].derived_from, curves["linf"].derived_from) == (None, "l2")
        proved = {point.eps: point.rate.k for point in curves["l2"].points}
        derived = {point.eps: point.rate.k for point in curves["linf"].points}
        assert derived[0.05] == proved[0.4]
        assert derived[0.0] == model.clean.k


def test_local_estimates_stay_below_the_proved_constant(report):
    for model in report.models:
        proof = model.certificate
        assert proof.slopes.n == 32
        assert proof.slopes.q05 <= proof.slopes.median <= proof.steepest
        assert 0.5 * proof.lipschitz < proof.steepest <= proof.lipschitz * 1.0001


def test_a_report_says_which_of_its_figures_answers_which_part_of_a_standard(asked):
    rows = standards.answers(asked, [1.0, None])
    aisvs = {row.item.split()[0]: row.answer for row in rows if row.framework == "OWASP AISVS 1.0"}
    assert list(aisvs) == ["11.1.3", "11.1.4", "11.2.2", "11.3.1", "11.4.1"]
    assert aisvs["11.1.3"] == ", ".join(asked.attacks)
    assert aisvs["11.2.2"] is aisvs["11.3.1"] is aisvs["11.4.1"] is None  # they are about a service, not a model
    act = [(row.item.split()[0], row.answer) for row in rows if row.framework == "EU AI Act, Article 15"]
    assert [part for part, _ in act] == ["15(3)", "15(4)", "15(5)", "15(5)", "15(5)"]
    assert "clean accuracy" in act[0][1]
    assert "robust accuracy" in act[2][1]
    assert "1 of 2 models" in act[3][1]
    assert act[4][1] is None
    assert {row.framework for row in rows if "ATLAS" in row.framework} == {"MITRE ATLAS 2026.05"}


@pytest.mark.parametrize(
    ("attacks", "smoothing", "answer"),
    [
        (["pgd"], None, None),
        (["noise", "pgd", "gaussian"], None, "noise, gaussian"),
        (["pgd"], SmoothingSpec(sigma=0.25), "smoothed accuracy"),
    ],
)
def test_disturbances_are_answered_by_what_disturbs(asked, attacks, smoothing, answer):
    request = asked.model_copy(update={"attacks": attacks, "smoothing": smoothing})
    assert {row.item[:5]: row.answer for row in standards.answers(request, [None])}["15(4)"] == answer


def test_the_page_says_from_when_the_duties_apply(report):
    page = render(report)
    assert "2 December 2027" in page
    assert "2 August 2028" in page


def test_a_report_answers_only_what_it_ran(asked):
    every = {row.item: row.answer for row in standards.answers(asked, [1.0, None])}
    assert "pgd, ddn" in every["NISTAML.022 Evasion"]
    assert every["formal methods of assessing robustness"] is not None
    alone = asked.model_copy(update={"models": ["tiny-a"], "attacks": ["square"]})
    answered = {row.item: row.answer for row in standards.answers(alone, [None])}
    assert answered["NISTAML.022 Evasion"] is None
    assert answered["NISTAML.025 Black-box evasion"] == "square"
    assert answered["formal methods of assessing robustness"] is None
    assert answered["AML.T0043.002 Craft Adversarial Data: black-box transfer"] is None
