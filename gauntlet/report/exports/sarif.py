"""A report as SARIF 2.1.0, for code scanning: a rule for each attack and norm, a result for each finding.

Rules carry MITRE ATLAS techniques, as taxa and as tags, and CWE-1039 (Inadequate Detection or Handling of Adversarial
Input Perturbations in Automated Recognition Mechanism).
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from gauntlet.norms import Norm
from gauntlet.report.exports.gate import Gate
from gauntlet.report.schema import AttackRecord, CheckRecord, ModelReport, Report, Robustness
from gauntlet.report.wording import NORM_NAMES, budget, interval, percent
from gauntlet.version import __version__

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ATLAS = "MITRE ATLAS"
TECHNIQUES = {
    "AML.T0015": "Evade AI Model",
    "AML.T0043.000": "Craft Adversarial Data: white-box optimization",
    "AML.T0043.001": "Craft Adversarial Data: black-box optimization",
}
BY_ACCESS = {"gradient": "AML.T0043.000", "score": "AML.T0043.001", "label": "AML.T0043.001"}
REQUIREMENT = {
    "id": "requirement",
    "shortDescription": {"text": "A model misses a requirement"},
    "defaultConfiguration": {"level": "error"},
}


def render(report: Report, gate: Gate) -> str:
    """Return the JSON. Missed requirements and alarms are errors; an attack that succeeds is a warning if a requirement
    at that norm and eps is missed, else a note. Fingerprints depend on model, attack, norm and eps alone.
    """
    missed = gate.missed(report)
    results = [
        _result(gate, outcome.model, "requirement", "error", f"{outcome.requirement.text}: {outcome.text}")
        for outcome in missed
    ]
    for model in report.models:
        places = {
            (outcome.requirement.norm, outcome.requirement.eps) for outcome in missed if outcome.model == model.name
        }
        results += [_alarm(gate, model, check) for check in model.checks if not check.passed]
        results += [_evasion(gate, model, entry, places) for entry in _broken(model)]
    run = {
        "tool": {"driver": _driver(report, missed=bool(missed))},
        "taxonomies": [{"name": ATLAS, "taxa": [{"id": id_, "name": name} for id_, name in TECHNIQUES.items()]}],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False) + "\n"


def _driver(report: Report, *, missed: bool) -> dict[str, Any]:
    by_name = {attack.name: attack for attack in report.attacks}
    evasions = {(entry.attack, entry.norm) for model in report.models for entry in model.robustness if entry.attack}
    alarms = {check.name: check for model in report.models for check in model.checks if not check.passed}
    rules = [_evasion_rule(by_name[attack], norm) for attack, norm in sorted(evasions)]
    rules += [_alarm_rule(check) for check in alarms.values()]
    rules += [REQUIREMENT] if missed else []
    return {"name": "Gauntlet", "version": __version__, "semanticVersion": __version__, "rules": rules}


def _evasion_rule(attack: AttackRecord, norm: Norm) -> dict[str, Any]:
    techniques = ["AML.T0015", *([BY_ACCESS[attack.access]] if attack.access else [])]
    summary = " ".join(attack.summary.split("\n\n")[0].split())
    return {
        "id": _evasion_id(attack.name, norm),
        "shortDescription": {"text": f"{attack.name} finds adversarial examples in {NORM_NAMES[norm]}"},
        "fullDescription": {"text": summary},
        "help": {"text": "Train the model for this threat, or serve it with a certificate; see the report's verdict."},
        "defaultConfiguration": {"level": "note"},
        "relationships": [
            {"target": {"id": technique, "toolComponent": {"name": ATLAS}}, "kinds": ["relevant"]}
            for technique in techniques
        ],
        "properties": {
            "tags": [
                "security",
                "adversarial-example",
                "external/cwe/cwe-1039",
                *(f"external/atlas/{technique.lower()}" for technique in techniques),
            ]
        },
    }


def _alarm_rule(check: CheckRecord) -> dict[str, Any]:
    return {
        "id": _alarm_id(check),
        "shortDescription": {"text": f"The check “{check.name}” raises an alarm"},
        "fullDescription": {"text": check.meaning},
        "help": {"text": check.advice},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["evaluation"]},
    }


def _broken(model: ModelReport) -> Iterator[Robustness]:
    return (entry for entry in model.robustness if entry.attack and entry.success.k)


def _evasion(
    gate: Gate, model: ModelReport, entry: Robustness, places: set[tuple[Norm | None, float | None]]
) -> dict[str, Any]:
    text = (
        f"{model.name}: {entry.attack} changes the class of {entry.success.k} of {entry.success.n} images that are "
        f"classified correctly, within {NORM_NAMES[entry.norm]} {budget(entry.eps)}. Robust accuracy under this "
        f"attack: {percent(entry.accuracy)} (95 % interval {interval(entry.accuracy)})."
    )
    level = "warning" if (entry.norm, entry.eps) in places else "note"
    assert entry.attack is not None
    return _result(gate, model.name, _evasion_id(entry.attack, entry.norm), level, text, f"{entry.eps!r}")


def _alarm(gate: Gate, model: ModelReport, check: CheckRecord) -> dict[str, Any]:
    return _result(gate, model.name, _alarm_id(check), "error", f"{model.name}: {check.meaning} ({check.measured}.)")


def _result(gate: Gate, model: str, rule: str, level: str, text: str, place: str = "") -> dict[str, Any]:
    """``place`` distinguishes results of the same rule and model; without it, the text before its first colon does."""
    key = "\n".join((model, rule, place or text.split(":", maxsplit=1)[0]))
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:32]
    location = {"artifactLocation": {"uri": gate.file(model)}, "region": {"startLine": 1}}
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [
            {"physicalLocation": location, "logicalLocations": [{"name": model, "kind": "model"}]},
        ],
        "partialFingerprints": {"primaryLocationLineHash": f"{fingerprint}:1"},
    }


def _evasion_id(attack: str, norm: Norm) -> str:
    return f"evasion/{attack}/{norm}"


def _alarm_id(check: CheckRecord) -> str:
    return f"check/{re.sub(r'[^a-z0-9]+', '-', check.name.lower()).strip('-')}"
