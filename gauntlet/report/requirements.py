"""Requirements such as ``certified(l2)@36/255>=0.8``: parsed from text and compared with a report."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from gauntlet.errors import InvalidInput
from gauntlet.norms import NORMS, Norm
from gauntlet.report.records import Rate
from gauntlet.report.schema import ModelReport, Report
from gauntlet.report.wording import budget, worst

FORM = "clean>=0.9, robust(linf)@0.1>=0.3 or certified(l2)@36/255>=0.8"
_PATTERN = re.compile(r"(clean|robust|certified)(?:\((\w+)\)@([\d.e/-]+))?\s*>=\s*(\d+\.?\d*|\.\d+)(%?)")


@dataclass(frozen=True)
class Requirement:
    """A minimum share of all images that are classified correctly, robust against the attacks run, or certified."""

    kind: Literal["clean", "robust", "certified"]
    norm: Norm | None
    eps: float | None
    least: float
    text: str

    def rate(self, model: ModelReport) -> Rate | None:
        """Return the figure that must be large enough; None if the report does not have it."""
        if self.kind == "clean":
            return model.clean
        if self.kind == "robust":
            entries = worst(model, cast("Norm", self.norm))
            return next((entry.accuracy for entry in entries if entry.eps == self.eps), None)
        points = [
            point
            for curve in model.curves
            if curve.kind == "certified" and curve.norm == self.norm
            for point in curve.points
        ]
        return next((point.rate for point in points if point.eps == self.eps), None)


def parse(text: str) -> Requirement:
    """Return the requirement written in a line. Raises InvalidInput, which shows the syntax."""
    match = _PATTERN.fullmatch(text.replace(" ", ""))
    if match is None:
        raise InvalidInput(f"{text!r} is no requirement; write it as {FORM}", "require")
    kind, norm, eps, least, per_cent = match.groups()
    if (kind == "clean") != (norm is None) or (norm is not None and norm not in NORMS):
        raise InvalidInput(
            f"{text!r}: clean takes no norm, robust and certified take one of {', '.join(NORMS)}", "require"
        )
    share = float(least) / (100 if per_cent else 1)
    if not 0 <= share <= 1:
        raise InvalidInput(f"{text!r}: the share must be between 0 and 1", "require")
    distance = None if eps is None else fraction(eps)
    return Requirement(
        cast("Literal['clean', 'robust', 'certified']", kind), cast("Norm | None", norm), distance, share, text
    )


def fraction(text: str) -> float:
    """Return the value of a decimal or a fraction: 0.03 or 8/255. Raises InvalidInput."""
    over, _, under = text.partition("/")
    try:
        return float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInput(f"{text!r} is neither a number nor a fraction such as 8/255") from error


@dataclass(frozen=True)
class Outcome:
    """The result of one requirement for one model."""

    model: str
    requirement: Requirement
    met: bool
    text: str  # the figure that decided it, or why there is none


def outcomes(report: Report, requirements: Sequence[Requirement], *, point: bool = False) -> list[Outcome]:
    """Compare every model with every requirement.

    The lower end of the 95 % Wilson interval must reach it, so that a model cannot pass by luck on few images; with
    ``point``, the share itself.
    """
    return [_outcome(model, requirement, point) for model in report.models for requirement in requirements]


def failures(report: Report, requirements: Sequence[Requirement], *, point: bool = False) -> list[str]:
    """Return a sentence for each requirement that a model does not meet."""
    missed = (outcome for outcome in outcomes(report, requirements, point=point) if not outcome.met)
    return [f"{outcome.model}: {outcome.requirement.text}: {outcome.text}" for outcome in missed]


def _outcome(model: ModelReport, requirement: Requirement, point: bool) -> Outcome:
    rate = requirement.rate(model)
    if rate is None:
        reason = f"there is no such figure ({_missing(model, requirement)})"
        return Outcome(model.name, requirement, met=False, text=reason)
    reached = (rate.value or 0.0) if point else rate.low
    text = f"{rate.k} of {rate.n}, {'' if point else 'at least '}{100 * reached:.1f} %"
    return Outcome(model.name, requirement, met=reached >= requirement.least, text=text)


def _missing(model: ModelReport, requirement: Requirement) -> str:
    if requirement.kind == "certified" and model.certificate.lipschitz is None and model.bounds is None:
        return f"{model.certificate.reason}; bounds were not requested"
    if requirement.kind == "certified" and model.bounds is not None and model.bounds.reason is not None:
        return f"{model.certificate.reason}; no bounds: {model.bounds.reason}"
    return f"none was measured at {requirement.norm} {budget(requirement.eps)}"
