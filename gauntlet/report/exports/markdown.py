"""A report as Markdown: a summary for the page of a CI job, and a model card for Hugging Face."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from gauntlet.errors import escaped
from gauntlet.norms import Norm
from gauntlet.report.compare import Comparison
from gauntlet.report.exports.gate import Gate
from gauntlet.report.headline import headlines
from gauntlet.report.records import Rate
from gauntlet.report.schema import ModelReport, Report
from gauntlet.report.wording import NORM_NAMES, budget, interval, percent, verdict


def summary(report: Report, gate: Gate) -> str:
    """Return one page: outcome, requirements, accuracies with their 95 % Wilson intervals, and verdict."""
    request = report.request
    attacks = ", ".join(attack.name for attack in report.attacks)
    outcomes = gate.outcomes(report)
    lines = [f"## Robustness: {_outcome(report, gate, missed=len(gate.missed(report)))}", ""]
    if outcomes:
        rows = [(o.model, f"`{o.requirement.text}`", "met" if o.met else "**missed**", o.text) for o in outcomes]
        lines += [*table(("model", "requirement", "", "measured"), rows), ""]
    lines += [*_accuracies(report), ""]
    if gate.changes is not None:
        lines += ["### Since the last report", "", *_changes(gate.changes), "", "### Verdict", ""]
    lines += [f"- {'**ALARM:** ' if finding.alarm else ''}{_escaped(finding.text)}" for finding in verdict(report)]
    lines += ["", f"First {request.n} images of {report.evalset.name}; attacks: {attacks}; seed {request.seed}."]
    lines += ["Accuracy in brackets: 95 % Wilson interval. Robust: under the worst of the attacks. Certified: proved."]
    return "\n".join(lines) + "\n"


def model_card(report: Report, gate: Gate) -> str:
    """Return the summary after a front matter with the ``model-index`` that Hugging Face reads."""
    entries = [f"- {json.dumps(_index(report, model), ensure_ascii=False)}" for model in report.models]
    return "\n".join(["---", "model-index:", *entries, "---", "", summary(report, gate)])


def changes(found: Comparison) -> str:
    """Return what got worse and better between two reports, for a comment on a merge request."""
    return "\n".join(["## Robustness since the last report", "", *_changes(found)]) + "\n"


def _changes(found: Comparison) -> list[str]:
    lines = [f"- **worse:** {_escaped(line)}" for line in found.losses] or ["- No model got less robust."]
    return lines + [f"- better: {_escaped(line)}" for line in found.gains]


def _index(report: Report, model: ModelReport) -> dict[str, Any]:
    metrics = [
        {
            "type": "accuracy",
            "name": headline.name,
            "value": headline.rate.value,
            "args": {"low": headline.rate.low, "high": headline.rate.high, "n": headline.rate.n},
        }
        for headline in headlines(model)
        if headline.rate.value is not None
    ]
    dataset = {"type": report.evalset.name, "name": report.evalset.name, "revision": report.evalset.sha256}
    return {
        "name": model.name,
        "results": [{"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}],
    }


def _outcome(report: Report, gate: Gate, missed: int) -> str:
    if not report.sound:
        return "not to be believed, a check raises an alarm"
    if missed:
        return f"{missed} requirement{'s' if missed > 1 else ''} missed"
    return "less than in the last report" if gate.changes is not None and gate.changes.losses else "every check passed"


def _accuracies(report: Report) -> list[str]:
    places: list[tuple[Norm, float]] = [(threat.norm, eps) for threat in report.request.threats for eps in threat.eps]
    head = ("model", "clean", *(f"{NORM_NAMES[norm]} {budget(eps)}" for norm, eps in places))
    rows = []
    for model in report.models:
        found = {(headline.kind, headline.norm, headline.eps): headline.rate for headline in headlines(model)}
        cells = [_cell("robust", found.get(("robust", *place))) for place in places]
        proofs = [_cell("certified", found.get(("certified", *place))) for place in places]
        both = ["<br>".join(filter(None, pair)) for pair in zip(cells, proofs, strict=True)]
        rows.append((model.name, _cell("", model.clean), *both))
    return table(head, rows)


def _cell(what: str, rate: Rate | None) -> str:
    return "" if rate is None else f"{what} {percent(rate)} ({interval(rate)})".strip()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; in the cells, which are plain text, ``|`` is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def _escaped(text: str) -> str:
    """Return the text with all markup escaped: the text of a check may quote a user's file."""
    return "".join(f"\\{character}" if character in r"\`*_[]<>#|" else character for character in escaped(text))
