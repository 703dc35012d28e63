"""Has a model become less robust between two reports, or more? The gate of a continuous integration."""

from dataclasses import dataclass
from typing import Any

from gauntlet.errors import InvalidInput
from gauntlet.report.headline import headlines
from gauntlet.report.schema import ModelReport, Report


@dataclass(frozen=True)
class Comparison:
    """In words, model by model."""

    losses: list[str]
    gains: list[str]


def compare(before: Report, after: Report, tolerance: float) -> Comparison:
    """What fell or rose by more than ``tolerance`` (a share, 0.01 is a point). Alarms of the second report are losses.

    Every figure and every check of ``before`` must be in ``after``: a gate that skips what it cannot find is none.
    Raises InvalidInput where the two cannot be compared.
    """
    if (before.evalset.sha256, before.request.n) != (after.evalset.sha256, after.request.n):
        raise InvalidInput("the reports were measured on different images and cannot be compared")
    old_attacks, new_attacks = _attacks(before), _attacks(after)
    if unlike := [name for name in old_attacks | new_attacks if old_attacks.get(name) != new_attacks.get(name)]:
        raise InvalidInput(
            f"the reports were made with different attacks or parameters ({', '.join(unlike)}) and cannot be compared"
        )
    if before.request.smoothing not in (None, after.request.smoothing):
        raise InvalidInput("the reports smooth their models differently and cannot be compared")
    known = {model.name: model for model in after.models}
    losses, gains = [], []
    for model in before.models:
        if model.name not in known:
            raise InvalidInput(f"the second report does not have the model {model.name}")
        new = _figures(known[model.name])
        unchecked = {check.name for check in model.checks} - {check.name for check in known[model.name].checks}
        if unchecked:
            raise InvalidInput(f"the second report does not have {model.name}: {', '.join(sorted(unchecked))}")
        for what, old in _figures(model).items():
            if what not in new:
                raise InvalidInput(f"the second report does not have {model.name}: {what}")
            change = f"from {100 * old:.2f} % to {100 * new[what]:.2f} %"
            if new[what] < old - tolerance - 1e-12:
                losses.append(f"{model.name}: {what} fell {change}")
            elif new[what] > old + tolerance + 1e-12:
                gains.append(f"{model.name}: {what} rose {change}")
    alarms = [(model, check) for model in after.models for check in model.checks if not check.passed]
    losses.extend(f"{model.name}: alarm, {check.name}: {check.measured}" for model, check in alarms)
    return Comparison(losses, gains)


def _attacks(report: Report) -> dict[str, dict[str, Any]]:
    """A model looks more robust to weaker attacks: only the same ones compare."""
    return {attack.name: attack.params for attack in report.attacks}


def _figures(model: ModelReport) -> dict[str, float]:
    """Clean accuracy, robust accuracy under the worst attack per eps, what is certified at the same eps."""
    return {headline.name: headline.rate.value or 0.0 for headline in headlines(model)}
