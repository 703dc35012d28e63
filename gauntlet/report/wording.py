"""Numbers and findings in words: how a figure is written, and what the verdict says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gauntlet.artifacts.manifest import PreprocessingTrial
from gauntlet.norms import Norm
from gauntlet.report.records import Rate
from gauntlet.report.schema import (
    CheckRecord,
    ModelReport,
    Perturbation,
    PrecisionBudget,
    PrecisionComparison,
    Report,
    Robustness,
)

NORM_NAMES: dict[Norm, str] = {"l2": "L2", "linf": "L∞", "l1": "L1", "l0": "L0 (pixels)"}
HOW = {
    "robust": "against the attacks run",
    "certified": "by proof",
    "smoothed": "in its smoothed classifier's certificates",
}
TEMPERATURE_SOURCES = {
    "manifest": "kept in the model's manifest",
    "held-out images": "images drawn from the evaluation set, which are not counted here",
    "none fitted": "nothing: the evaluation set is too small",
}
NOT_AVAILABLE = "–"
CHOSEN = "chosen by the images, not declared"
TRIED = 3  # other preprocessings in a sentence

APPLIES = (
    "The duties of Article 15 of the EU AI Act apply from 2 December 2027 to the high-risk systems of its Annex III, "
    "and from 2 August 2028 to those of Annex I."
)


def number(value: float | None, digits: int = 3) -> str:
    """Significant digits, a dash for what there is not."""
    return NOT_AVAILABLE if value is None else f"{value:.{digits}g}"


def budget(eps: float | None) -> str:
    """Eps as people write it: 0.5, but 8/255 where that is what the digits mean."""
    if eps is None:
        return "any distance"
    levels = round(eps * 255)
    if len(repr(eps)) > 6 and 0 < levels < 255 and abs(eps * 255 - levels) < 1e-6:
        return f"{levels}/255"
    return f"{eps:.4g}"


def percent(rate: Rate) -> str:
    return NOT_AVAILABLE if rate.value is None else f"{100 * rate.value:.1f} %"


def interval(rate: Rate) -> str:
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f}"


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict; an ``alarm`` says that something in the report must not be believed."""

    text: str
    alarm: bool = False


def verdict(report: Report) -> list[Finding]:
    """What the report comes to, the most important first."""
    norms: list[Norm] = [threat.norm for threat in report.request.threats]
    return [
        *_soundness(report),
        *(Finding(text) for norm in norms for text in _ranking(report, norm)),
        *(Finding(text) for norm in norms for text in _shared_medians(report, norm)),
        *(Finding(_what_holds(report, model)) for model in report.models),
        *(Finding(_quantised(pair)) for pair in report.precision),
        *(Finding(text) for model in report.models for text in _preprocessing(model)),
        *(Finding(text) for text in report.left_out),
    ]


def _soundness(report: Report) -> list[Finding]:
    findings = [
        Finding(f"{model.name}: {check.meaning} ({check.name}: {check.measured}.) {check.advice}", alarm=True)
        for model in report.models
        for check in model.checks
        if not check.passed
    ]
    if findings:
        return findings
    certified = [model.name for model in report.models if model.certificate.ratio is not None]
    proved = f" No attack broke an image inside its certified radius ({listed(certified)})." if certified else ""
    return [Finding(f"The figures can be believed as far as {_count_checks(report)} can tell.{proved}")]


def _count_checks(report: Report) -> str:
    return f"{sum(len(model.checks) for model in report.models)} checks"


def check_names(report: Report) -> list[str]:
    """Every check that any model had, in order."""
    return list(dict.fromkeys(check.name for model in report.models for check in model.checks))


def check_of(model: ModelReport, name: str) -> CheckRecord | None:
    """None where the check does not apply to the model."""
    return next((check for check in model.checks if check.name == name), None)


def worst(model: ModelReport, norm: Norm) -> list[Robustness]:
    """Robust accuracy under the worst of the attacks, at each eps of the norm."""
    return [entry for entry in model.robustness if entry.norm == norm and entry.attack is None]


def _ranking(report: Report, norm: Norm) -> list[str]:
    """Which model resists better, said only where the intervals do not overlap."""
    if len(report.models) < 2:
        return []
    name = NORM_NAMES[norm]
    gaps = []
    for entries in zip(*(worst(model, norm) for model in report.models), strict=True):
        pairs = zip(report.models, entries, strict=True)
        ordered = sorted(pairs, key=lambda pair: pair[1].accuracy.k, reverse=True)
        (first, best), (second, next_best) = ordered[:2]
        if best.accuracy.low > next_best.accuracy.high:
            gap = best.accuracy.k - next_best.accuracy.k
            gaps.append((gap, first.name, second.name, best, next_best))
    if not gaps:
        return [
            f"In {name}, {report.request.n} images do not tell the best models apart (their 95 % intervals overlap)."
        ]
    sentences = []
    for winner in dict.fromkeys(gap[1] for gap in gaps):
        _, _, other, best, next_best = max((gap for gap in gaps if gap[1] == winner), key=lambda gap: gap[0])
        sentences.append(
            f"{winner} resists best in {name}: at a distance of {budget(best.eps)}, {percent(best.accuracy)} of all "
            f"images stand against all the attacks together; next is {other} with {percent(next_best.accuracy)}."
        )
    return sentences


def _quantised(pair: PrecisionComparison) -> str:
    """What eight bits change, in each norm at one budget."""
    one, other = pair.quantised, pair.original
    norms = dict.fromkeys(entry.norm for entry in pair.budgets)
    same = (
        f"{one} is quantised (gradients: {pair.gradients}) and answers {_share(pair.same_answer)} of the clean images"
    )
    parts = [_quantised_at(other, _telling(pair.budgets, norm)) for norm in norms]
    return "; ".join([f"{same} as {other} does", *parts]) + "."


def _quantised_at(other: str, at: PrecisionBudget) -> str:
    return (
        f"at {NORM_NAMES[at.norm]} {budget(at.eps)}, {percent(at.quantised)} of all images stand, of {other} "
        f"{percent(at.original)}; examples made on {other} mislead it on {_share(at.to_quantised)} of those it "
        f"classifies correctly, its own mislead {other} on {_share(at.to_original)}"
    )


def _telling(budgets: Sequence[PrecisionBudget], norm: Norm) -> PrecisionBudget:
    """The budget of the norm that leaves nearest to half of the float model's images."""
    return min((entry for entry in budgets if entry.norm == norm), key=lambda e: abs(e.original.k / e.original.n - 0.5))


def _share(rate: Rate) -> str:
    return f"{percent(rate)} ({rate.k} of {rate.n})"


def _preprocessing(model: ModelReport) -> list[str]:
    """What was chosen by the same images that the figures are of."""
    found = model.preprocessing
    if found is None or found.taken is None:
        return []
    return [f"The preprocessing of {model.name}, {found.taken}, was {CHOSEN}: {trial(found)}."]


def trial(found: PreprocessingTrial) -> str:
    """How often a model is right with the preprocessing that was taken, as guessed and with the next best."""
    best = next(iter(found.right)) if found.taken is None else found.taken
    guess = f"{_of(found.guess)} as guessed"
    if found.taken is None:
        return f"{guess} are classified correctly, {_of(found.right[best])} with {best}, which is not clearly more"
    others = [f"{_of(found.right[name])} with {name}" for name in found.right if name != best][:TRIED]
    return f"{_of(found.right[best])} are classified correctly, {', '.join([guess, *others])}"


def _of(tally: tuple[int, int]) -> str:
    return f"{tally[0]} of {tally[1]}"


def smallest(model: ModelReport, norm: Norm) -> Perturbation | None:
    """Of the minimum-norm attacks together."""
    return next((entry for entry in model.perturbations if entry.norm == norm and entry.attack is None), None)


def perturbations(model: ModelReport) -> list[Perturbation]:
    """The rows worth showing: where a single attack ran in a norm, the smallest of them is that attack."""
    count = Counter(entry.norm for entry in model.perturbations)
    return [entry for entry in model.perturbations if entry.attack is not None or count[entry.norm] > 2]


def _shared_medians(report: Report, norm: Norm) -> list[str]:
    entries = [(model.name, smallest(model, norm)) for model in report.models]
    medians = [(name, entry.shared.median) for name, entry in entries if entry is not None]
    if len(medians) < 2 or report.shared_correct == 0:
        return []
    said = [
        f"{name} {number(median) if median is not None else 'more than the attacks found'}" for name, median in medians
    ]
    images = f"{report.shared_correct} images that all classify correctly"
    return [f"On the {images}, the median smallest {NORM_NAMES[norm]} distance that breaks one is: {listed(said)}."]


def _what_holds(report: Report, model: ModelReport) -> str:
    parts = [f"{model.name} classifies {percent(model.clean)} of {model.clean.n} clean images correctly"]
    if model.top5 is not None:
        parts.append(f"the class of {percent(model.top5)} is among its five likeliest")
    for curve in model.curves:
        half = [point.eps for point in curve.points if point.eps > 0 and (point.rate.value or 0.0) >= 0.5]
        reach = (
            f"up to {NORM_NAMES[curve.norm]} {budget(half[-1])}" if half else f"at no {NORM_NAMES[curve.norm]} distance"
        )
        whole = curve.points[0].rate.n == model.clean.n
        images = "half of all images" if whole else f"half of the first {curve.points[0].rate.n}"
        parts.append(f"{images} stand {reach} {HOW[curve.kind]}")
    curved = {curve.norm for curve in model.curves if curve.kind == "robust"}
    for norm in (threat.norm for threat in report.request.threats if threat.norm not in curved):
        said = [f"{percent(entry.accuracy)} at {budget(entry.eps)}" for entry in worst(model, norm)]
        parts.append(f"in {NORM_NAMES[norm]}, {listed(said)} {HOW['robust']}")
    return "; ".join(parts) + "."
