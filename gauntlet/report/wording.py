"""Numbers and findings as text: the format of figures, and the sentences of the verdict."""

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
    "smoothed": "by certificates of its smoothed classifier",
}
TEMPERATURE_SOURCES = {
    "manifest": "the model's manifest",
    "held-out images": "fitted on images drawn from the evaluation set, which are not counted here",
    "none fitted": "not fitted: the evaluation set is too small",
}
NOT_AVAILABLE = "–"
CHOSEN = "chosen by the labelled images"
TRIED = 3  # other preprocessings that a sentence names, at most

APPLIES = (
    "The duties of Article 15 of the EU AI Act apply from 2 December 2027 to the high-risk systems of its Annex III, "
    "and from 2 August 2028 to those of Annex I."
)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, or a dash for None."""
    return NOT_AVAILABLE if value is None else f"{value:.{digits}g}"


def budget(eps: float | None) -> str:
    """Return eps as people write it: 0.5, but 8/255 if that is what the digits mean."""
    if eps is None:
        return "any distance"
    levels = round(eps * 255)
    if len(repr(eps)) > 6 and 0 < levels < 255 and abs(eps * 255 - levels) < 1e-6:
        return f"{levels}/255"
    return f"{eps:.4g}"


def percent(rate: Rate) -> str:
    """Return the share in percent, such as ``52.0 %``."""
    return NOT_AVAILABLE if rate.value is None else f"{100 * rate.value:.1f} %"


def interval(rate: Rate) -> str:
    """Return the 95 % interval in percent, such as ``42.1 to 61.8``."""
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f}"


def listed(words: Sequence[str]) -> str:
    """Return the words joined as in ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict; an ``alarm`` says that something in the report must not be believed."""

    text: str
    alarm: bool = False


def verdict(report: Report) -> list[Finding]:
    """Return the findings of the report, the most important first."""
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
    """Return the names of all checks that any model had, in order."""
    return list(dict.fromkeys(check.name for model in report.models for check in model.checks))


def check_of(model: ModelReport, name: str) -> CheckRecord | None:
    """Return the model's check of this name; None if it does not apply to the model."""
    return next((check for check in model.checks if check.name == name), None)


def worst(model: ModelReport, norm: Norm) -> list[Robustness]:
    """Return robust accuracy under the worst of the attacks, at each eps of the norm."""
    return [entry for entry in model.robustness if entry.norm == norm and entry.attack is None]


def _ranking(report: Report, norm: Norm) -> list[str]:
    """Return which model resists best; one is named only if the intervals do not overlap."""
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
            f"images withstand all the attacks together; next is {other} with {percent(next_best.accuracy)}."
        )
    return sentences


def _quantised(pair: PrecisionComparison) -> str:
    """Return how a quantised model differs from its float original, in each norm at one budget."""
    one, other = pair.quantised, pair.original
    norms = dict.fromkeys(entry.norm for entry in pair.budgets)
    same = (
        f"{one} is quantised (gradients: {pair.gradients}) and answers {_share(pair.same_answer)} of the clean images"
    )
    parts = [_quantised_at(other, _most_informative(pair.budgets, norm)) for norm in norms]
    return "; ".join([f"{same} as {other} does", *parts]) + "."


def _quantised_at(other: str, at: PrecisionBudget) -> str:
    return (
        f"at {NORM_NAMES[at.norm]} {budget(at.eps)}, its robust accuracy is {percent(at.quantised)}, that of {other} "
        f"{percent(at.original)}; examples made on {other} fool it on {_share(at.to_quantised)} of the images it "
        f"classifies correctly, examples made on it fool {other} on {_share(at.to_original)}"
    )


def _most_informative(budgets: Sequence[PrecisionBudget], norm: Norm) -> PrecisionBudget:
    """Return the budget of the norm at which the float model's robust accuracy is nearest to one half."""
    return min((entry for entry in budgets if entry.norm == norm), key=lambda e: abs(e.original.k / e.original.n - 0.5))


def _share(rate: Rate) -> str:
    return f"{percent(rate)} ({rate.k} of {rate.n})"


def _preprocessing(model: ModelReport) -> list[str]:
    """Return a sentence if labelled images, the same that the figures are measured on, chose the preprocessing."""
    found = model.preprocessing
    if found is None or found.taken is None:
        return []
    return [f"The preprocessing of {model.name}, {found.taken}, was not declared but {CHOSEN}: {trial(found)}."]


def trial(found: PreprocessingTrial) -> str:
    """Return how often a model is right with the preprocessing that was taken, as guessed, and with the next best."""
    best = next(iter(found.right)) if found.taken is None else found.taken
    guess = f"{_of(found.guess)} as guessed"
    if found.taken is None:
        return f"{guess} are classified correctly, {_of(found.right[best])} with {best}, which is not clearly more"
    others = [f"{_of(found.right[name])} with {name}" for name in found.right if name != best][:TRIED]
    return f"{_of(found.right[best])} are classified correctly, {', '.join([guess, *others])}"


def _of(tally: tuple[int, int]) -> str:
    return f"{tally[0]} of {tally[1]}"


def smallest(model: ModelReport, norm: Norm) -> Perturbation | None:
    """Return the smallest perturbations over all minimum-norm attacks; None if none ran in the norm."""
    return next((entry for entry in model.perturbations if entry.norm == norm and entry.attack is None), None)


def perturbations(model: ModelReport) -> list[Perturbation]:
    """Return the rows to show: if a single attack ran in a norm, the row of the smallest of all would repeat it."""
    count = Counter(entry.norm for entry in model.perturbations)
    return [entry for entry in model.perturbations if entry.attack is not None or count[entry.norm] > 2]


def _shared_medians(report: Report, norm: Norm) -> list[str]:
    entries = [(model.name, smallest(model, norm)) for model in report.models]
    medians = [(name, entry.shared.median) for name, entry in entries if entry is not None]
    if len(medians) < 2 or report.shared_correct == 0:
        return []
    texts = [
        f"{name} {number(median) if median is not None else 'infinite (half or more not broken)'}"
        for name, median in medians
    ]
    images = f"{report.shared_correct} images that all models classify correctly"
    return [f"On the {images}, the median smallest {NORM_NAMES[norm]} distance that breaks one is: {listed(texts)}."]


def _what_holds(report: Report, model: ModelReport) -> str:
    parts = [f"{model.name} classifies {percent(model.clean)} of {model.clean.n} clean images correctly"]
    if model.top5 is not None:
        parts.append(f"the true class of {percent(model.top5)} is among its five likeliest")
    for curve in model.curves:
        half = [point.eps for point in curve.points if point.eps > 0 and (point.rate.value or 0.0) >= 0.5]
        distance = (
            f"up to {NORM_NAMES[curve.norm]} {budget(half[-1])}" if half else f"at no {NORM_NAMES[curve.norm]} distance"
        )
        whole = curve.points[0].rate.n == model.clean.n
        images = "half of all images" if whole else f"half of the first {curve.points[0].rate.n}"
        parts.append(f"{images} are robust {distance} {HOW[curve.kind]}")
    curved = {curve.norm for curve in model.curves if curve.kind == "robust"}
    for norm in (threat.norm for threat in report.request.threats if threat.norm not in curved):
        texts = [f"{percent(entry.accuracy)} at {budget(entry.eps)}" for entry in worst(model, norm)]
        parts.append(f"robust accuracy in {NORM_NAMES[norm]} is {listed(texts)} {HOW['robust']}")
    return "; ".join(parts) + "."
