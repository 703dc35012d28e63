"""A report as JUnit XML: a test suite for each model, a test case for each check and each requirement."""

from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element, SubElement

from gauntlet.errors import escaped
from gauntlet.report.compare import Comparison
from gauntlet.report.exports.gate import Gate
from gauntlet.report.requirements import Outcome
from gauntlet.report.schema import CheckRecord, ModelReport, Report


def render(report: Report, gate: Gate) -> str:
    """Return the XML: ``failure`` for a missed requirement, ``error`` for a check's alarm: figures are not valid."""
    outcomes = gate.outcomes(report)
    suites = [] if gate.changes is None else [_changes(gate.changes)]
    suites += [
        _suite(model, [outcome for outcome in outcomes if outcome.model == model.name]) for model in report.models
    ]
    root = Element("testsuites", {"name": "gauntlet", **_totals(suites)})
    root.extend(suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(model: ModelReport, outcomes: list[Outcome]) -> Element:
    suite = Element("testsuite", {"name": model.name})
    for check in model.checks:
        _add_check(suite, model.name, check)
    for outcome in outcomes:
        case = SubElement(suite, "testcase", {"classname": model.name, "name": f"requires {outcome.requirement.text}"})
        if outcome.met:
            SubElement(case, "system-out").text = outcome.text
        else:
            SubElement(case, "failure", {"type": "requirement", "message": escaped(outcome.text)})
    counts = {tag: str(len(suite.findall(f"testcase/{tag}"))) for tag in ("failure", "error")}
    suite.attrib.update(tests=str(len(suite)), failures=counts["failure"], errors=counts["error"])
    return suite


def _changes(changes: Comparison) -> Element:
    suite = Element("testsuite", {"name": "since the last report", "tests": "1", "errors": "0"})
    case = SubElement(suite, "testcase", {"classname": "comparison", "name": "no model got less robust"})
    for line in changes.losses:
        SubElement(case, "failure", {"type": "loss", "message": escaped(line)})
    suite.attrib["failures"] = str(min(1, len(changes.losses)))
    return suite


def _add_check(suite: Element, model: str, check: CheckRecord) -> None:
    case = SubElement(suite, "testcase", {"classname": model, "name": f"check: {check.name}"})
    if check.passed:
        SubElement(case, "system-out").text = escaped(check.measured)
    else:
        error = SubElement(case, "error", {"type": "alarm", "message": escaped(check.measured)})
        error.text = escaped(f"{check.meaning} {check.advice}")


def _totals(suites: list[Element]) -> dict[str, str]:
    return {name: str(sum(int(suite.attrib[name]) for suite in suites)) for name in ("tests", "failures", "errors")}
