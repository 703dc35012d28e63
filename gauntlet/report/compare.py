"""Comparison of two reports: which models became less or more robust. A gate for continuous integration."""

from dataclasses import dataclass
from typing import Any

from gauntlet.errors import InvalidInput
from gauntlet.report.headline import headlines
from gauntlet.report.schema import ModelReport, Report


@dataclass(frozen=True)
class Comparison:
    """The changes as sentences, model by model."""

    losses: list[str]
    gains: list[str]


def compare(before: Report, after: Report, tolerance: float) -> Comparison:
    """Return the figures that fell or rose by more than ``tolerance``, a share: 0.01 is one percentage point.

    Alarms of the second report count as losses. Every figure and every check of ``before`` must be in ``after``: a gate
    that skipped missing ones would pass without a reason. Raises InvalidInput if the two cannot be compared.
    """
    if (before.evalset.sha256, before.request.n) != (after.evalset.sha256, after.request.n):
        raise InvalidInput("the reports were measured on different images and cannot be compared")
    old_attacks, new_attacks = _attacks(before), _attacks(after)
    if unequal := [name for name in old_attacks | new_attacks if old_attacks.get(name) != new_attacks.get(name)]:
        raise InvalidInput(
            f"the reports were made with different attacks or parameters ({', '.join(unequal)}) and cannot be compared"
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
    """Return the parameters of each attack; both reports need the same, as weaker attacks make a model look robust."""
    return {attack.name: attack.params for attack in report.attacks}


def _figures(model: ModelReport) -> dict[str, float]:
    """Return, by name, clean accuracy and, at each eps, robust (under the worst attack) and certified accuracy."""
    return {headline.name: headline.rate.value or 0.0 for headline in headlines(model)}
