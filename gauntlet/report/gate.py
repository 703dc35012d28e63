"""``certified(l2)@36/255>=0.8``: what a model must reach, read from a line and held against a report."""

import re
from dataclasses import dataclass
from typing import Literal, cast

from gauntlet.errors import InvalidInput
from gauntlet.norms import NORMS, Norm
from gauntlet.report.records import Rate
from gauntlet.report.schema import ModelReport, Report
from gauntlet.report.words import budget, worst

FORM = "clean>=0.9, robust(linf)@0.1>=0.3 or certified(l2)@36/255>=0.8"
_PATTERN = re.compile(r"(clean|robust|certified)(?:\((\w+)\)@([\d.e/-]+))?\s*>=\s*(\d+\.?\d*|\.\d+)(%?)")


@dataclass(frozen=True)
class Requirement:
    """A share of all images: classified correctly, standing against the attacks run, or certified."""

    kind: Literal["clean", "robust", "certified"]
    norm: Norm | None
    eps: float | None
    least: float
    text: str

    def rate(self, model: ModelReport) -> Rate | None:
        """The figure that must be large enough; None where the report does not have it."""
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
    """Raises InvalidInput with the form that a requirement has."""
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
    """A decimal or a fraction: 0.03 or 8/255. Raises InvalidInput."""
    over, _, under = text.partition("/")
    try:
        return float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInput(f"{text!r} is neither a number nor a fraction such as 8/255") from error


def failures(report: Report, requirements: list[Requirement], *, point: bool = False) -> list[str]:
    """The requirements that a model does not meet, in words.

    Held against the lower end of the 95 % Wilson interval, so that few images cannot pass by luck; against the share
    itself with ``point``.
    """
    lines = []
    for model in report.models:
        for requirement in requirements:
            rate = requirement.rate(model)
            if rate is None:
                lines.append(
                    f"{model.name}: {requirement.text}: there is no such figure ({_missing(model, requirement)})"
                )
                continue
            reached = (rate.value or 0.0) if point else rate.low
            if reached < requirement.least:
                said = f"{rate.k} of {rate.n}, {'' if point else 'at least '}{100 * reached:.1f} %"
                lines.append(f"{model.name}: {requirement.text}: {said}")
    return lines


def _missing(model: ModelReport, requirement: Requirement) -> str:
    if requirement.kind == "certified" and model.certificate.lipschitz is None:
        return model.certificate.reason
    return f"none was measured at {requirement.norm} {budget(requirement.eps)}"
