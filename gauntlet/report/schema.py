"""Schemas of a robustness report: its request, the results of one cell, and the report itself. All strict JSON."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from gauntlet.artifacts.manifest import Name, PreprocessingTrial, Sha256
from gauntlet.norms import Norm
from gauntlet.report.records import (
    BoundsMeasurement,
    BoundsReport,
    BoundsSpec,
    CalibrationReport,
    Count,
    Distribution,
    ProbabilityMeasurement,
    Rate,
    Record,
    SmoothedMeasurement,
    SmoothedReport,
    SmoothingSpec,
)
from gauntlet.unanswered_label import UNANSWERED

Eps = Annotated[float, Field(gt=0, le=1000, description="in pixel units: pixels are in [0, 1]")]

# The request

UNIQUE: dict[str, JsonValue] = {"uniqueItems": True}
DEFAULT_ATTACKS: dict[Norm, list[str]] = {
    "l2": ["fab"],
    "linf": ["fmn", "apgd"],
    "l1": ["fmn"],
    "l0": ["sigma-zero", "fmn"],
}
"""Strong enough that `strongest` lowers no robust accuracy by more than a point: `python -m bench.attacks defaults`."""

DEFAULT_THREATS: list[dict[str, Any]] = [{"norm": "l2", "eps": [0.25, 0.5, 1.0]}, {"norm": "linf", "eps": [0.03, 0.1]}]


class ThreatSpec(Record):
    """One norm and the budgets at which robust accuracy is measured."""

    model_config = ConfigDict(strict=True)

    norm: Norm
    eps: Annotated[list[Eps], Field(min_length=1, max_length=16, json_schema_extra=UNIQUE)]


def _default_attacks(data: dict[str, Any]) -> list[str]:
    """Return the default attacks for the norms of a request's threats."""
    threats: list[ThreatSpec] = data.get("threats", [])
    return list(dict.fromkeys(name for threat in threats for name in DEFAULT_ATTACKS[threat.norm]))


class ReportRequest(Record):
    """Measure every model under every attack, in each of its norms that has a threat, on the first ``n`` images."""

    model_config = ConfigDict(strict=True)

    models: Annotated[
        list[Name], Field(min_length=1, max_length=8, json_schema_extra=UNIQUE, examples=[["fashion-mnist-standard"]])
    ]
    dataset: Annotated[Name, Field(examples=["fashion-mnist"])]
    n: Annotated[int, Field(ge=1, le=10_000)]
    threats: Annotated[list[ThreatSpec], Field(min_length=1, max_length=4)] = Field(
        default=DEFAULT_THREATS, validate_default=True
    )
    attacks: Annotated[list[Name], Field(min_length=1, max_length=16, json_schema_extra=UNIQUE)] = Field(
        default_factory=_default_attacks,
        examples=[["fab", "fmn", "apgd"]],
        description="each runs in all of its norms that have a threat; by default a few attacks for each norm",
    )
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 0  # integers that every JSON reader keeps exact
    checked: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="images that the checks use, at most; by default 64"
    )
    budget_seconds: Annotated[float, Field(ge=1, le=604_800, allow_inf_nan=False)] | None = Field(
        default=None,
        description="plan a report that takes about so long on one worker: fewer images, then fewer attacks and "
        "checked images, estimated from timed passes of the models; `left_out` of the report lists what is missing",
    )
    smoothing: SmoothingSpec | None = Field(default=None, description="certify the smoothed classifier as well")
    bounds: BoundsSpec | None = Field(default=None, description="prove robustness image by image by bounds on logits")

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        lists: dict[str, list[Any]] = {
            "models": self.models,
            "attacks": self.attacks,
            "norms of threats": [threat.norm for threat in self.threats],
            **{f"eps of {threat.norm}": threat.eps for threat in self.threats},
        }
        for what, values in lists.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{what} must not repeat")
        return self


# The measurements


class Cell(Record):
    """One measurement of one model. ``eps`` is None for minimum-norm attacks, and if no attack is run."""

    model: str
    kind: Literal["clean", "checks", "smoothing", "bounds", "attack"] = "attack"
    attack: str | None = None
    norm: Norm | None = None
    eps: float | None = None
    cost: Count = Field(description="passes through a network times images")

    @property
    def key(self) -> str:
        """A name that is unique among the cells of the request."""
        parts = (self.model, self.attack or self.kind, self.norm, None if self.eps is None else f"{self.eps!r}")
        return "/".join(part for part in parts if part is not None)


Answered = Annotated[int, Field(ge=UNANSWERED, description="a class; -1: no answer, as the logits are NaN or infinite")]


class Example(Record):
    """One image that an attack broke; the pictures are base64 PNG, ``noise`` amplified around mid-grey."""

    index: Count
    label: Count
    adversarial_label: Count
    l2: float
    linf: float
    clean: str
    adversarial: str
    noise: str


class CleanMeasurement(Record):
    """Results on clean images: one entry per image, in order."""

    labels: list[Answered]
    margins: list[float | None] = Field(
        description="logit of the true class less the largest other: negative if wrong; None: no answer"
    )
    top5: list[bool] | None = Field(
        default=None, description="whether the true class is among the five likeliest; None: 20 classes or fewer"
    )
    radii: list[float] | None = Field(description="certified L2 radius of the predicted class; None: no certificate")
    slopes: list[float] = Field(description="local Lipschitz estimates around the first images: each at most L")
    probabilities: ProbabilityMeasurement | None = Field(default=None, description="None: measured by an older version")


class AttackMeasurement(Record):
    """Results of an attack: one entry per broken image, aligned with ``broken``, which has their indices in order."""

    broken: list[Count]
    labels: list[Count] = Field(description="class that the model predicts after the attack")
    distances: dict[Norm, list[float]]
    transfer: dict[str, list[Answered]] = Field(description="what each other model predicts for the same images")
    queries: Count
    by: dict[str, Count] = Field(default={}, description="images broken, by the attack that made the example")
    examples: list[Example]


class CheckRecord(Record):
    """One check of whether the evaluation is valid; what an alarm means, and what to do about it."""

    name: str
    passed: bool
    measured: str
    meaning: str
    advice: str


class Probe(Record):
    """Images among the first ones that the checks' own search broke, whichever attacks the report has."""

    broken: list[Count]
    l2: list[float] = Field(description="distance of the example found, aligned with ``broken``")


class CellResult(Record):
    """The result of a finished cell; ``CellResult.model_validate_json`` reads it back."""

    cell: Cell
    n: Count
    seconds: float
    clean: CleanMeasurement | None = None
    checks: list[CheckRecord] | None = None
    probe: Probe | None = Field(default=None, description="present with the checks")
    smoothed: SmoothedMeasurement | None = None
    bounds: BoundsMeasurement | None = None
    attack: AttackMeasurement | None = None


# The report


class Robustness(Record):
    """Accuracy at one budget. ``attack`` None: under the worst of all attacks run, image by image."""

    norm: Norm
    eps: float
    attack: str | None
    accuracy: Rate = Field(description="robust accuracy: of all images")
    success: Rate = Field(description="attack success: of the images classified correctly at first")


class Perturbation(Record):
    """Smallest distances that minimum-norm attacks needed. ``attack`` None: the smallest of them, image by image."""

    norm: Norm
    attack: str | None
    own: Distribution = Field(description="on the images that this model classifies correctly")
    shared: Distribution = Field(description="on the images that all models of the report classify correctly")
    histogram: list[Count] = Field(description="of `own`, between the edges that the report gives for the norm")


class CurvePoint(Record):
    eps: float
    rate: Rate


class Curve(Record):
    """Accuracy over eps: ``robust`` from the smallest distance found (an upper bound), ``certified`` a lower bound.

    ``smoothed``: a lower bound too, but of the smoothed classifier, up to its alpha, and over fewer images.
    """

    kind: Literal["robust", "certified", "smoothed"]
    norm: Norm
    derived_from: Norm | None = Field(
        description="the norm of the proofs, if it is another one: its ball encloses that of ``norm``"
    )
    points: list[CurvePoint]


class CertificateRecord(Record):
    """``lipschitz`` is the proved L2 constant of the whole logit map, None (and a ``reason``) where none is proved."""

    lipschitz: float | None
    method: str
    reason: str
    slopes: Distribution = Field(description="spectral norms of the Jacobian found around single images")
    steepest: float = Field(description="the largest of them; it must not exceed the proved constant")
    ratio: Distribution | None = Field(description="smallest L2 distance found / certified radius, where correct")
    contradictions: Count = Field(description="images broken inside a certified radius: must be 0")
    contradicted: list[Count] = Field(description="indices of the first of them")
    refuted: bool = Field(description="a Jacobian norm exceeds the proved constant: must be false")


class Band(Record):
    """Counts of all images at one budget: proved robust, broken (or wrong from the start), and neither."""

    norm: Norm
    eps: float
    certified: Count
    broken: Count
    neither: Count


class ExampleSet(Record):
    """The worst examples: the smallest perturbations of the smallest budget at which the attack broke anything."""

    attack: str
    norm: Norm
    eps: float | None
    examples: list[Example]


class ClassBudget(Record):
    """Robust accuracy under the worst of the attacks, and certified accuracy, of one class at one budget."""

    norm: Norm
    eps: float
    robust: Rate
    certified: Rate | None = Field(description="None: no certificate")


class ClassReport(Record):
    """Results on the images of one class."""

    label: Count
    clean: Rate
    budgets: list[ClassBudget]
    taken_for: Count | None = Field(description="class that its broken images most often get; None: none was broken")


class ModelReport(Record):
    name: str
    family: str
    sha256: Sha256
    source: str | None = Field(
        default=None, description="where a user's model was downloaded from, with revision or version; None: a file"
    )
    source_sha256: Sha256 | None = Field(default=None, description="of the file before conversion; None: trained here")
    device: str
    gradients: str | None = Field(
        default=None,
        description="`verified`, `straight-through` (quantised models) or `none` and why; None: an older version",
    )
    preprocessing: PreprocessingTrial | None = Field(
        default=None, description="how labelled images chose what the owner did not declare; None: they did not"
    )
    clean: Rate
    top5: Rate | None = Field(
        default=None, description="clean images whose class is among the five likeliest; None: 20 classes or fewer"
    )
    margins: Distribution
    checks: list[CheckRecord]
    certificate: CertificateRecord
    smoothed: SmoothedReport | None = None
    calibration: CalibrationReport | None = Field(default=None, description="None: measured by an older version")
    bounds: BoundsReport | None = None
    bands: list[Band] = Field(default=[], description="at each requested budget, if anything is proved")
    robustness: list[Robustness]
    perturbations: list[Perturbation]
    curves: list[Curve]
    classes: list[ClassReport] = Field(
        description="by number; of more than 20 that have images, the 20 of least robust accuracy"
    )
    classes_left_out: Count = Field(default=0, description="classes that have images and are not listed")
    examples: list[ExampleSet]


class TransferRate(Record):
    """Share of the examples that fool ``source`` that fool ``target`` too, where it is right on the clean image."""

    source: str
    target: str
    fooled: Rate


class TransferMatrix(Record):
    attack: str
    norm: Norm
    eps: float | None
    rates: list[TransferRate]


class PrecisionBudget(Record):
    """A float model and its quantised copy at one budget, each under all attacks made on itself."""

    norm: Norm
    eps: float
    original: Rate = Field(description="robust accuracy of the float model")
    quantised: Rate = Field(description="robust accuracy of the copy")
    broken_too: Rate = Field(
        description="of the images that both classify correctly and attacks on the float model break: those that "
        "attacks on the copy break as well"
    )
    to_quantised: Rate = Field(
        description="of the images that the copy classifies correctly: fooled by an example made on the float model"
    )
    to_original: Rate = Field(description="the same of the float model and examples made on the copy")


class PrecisionComparison(Record):
    """A quantised model compared with the float model of the report whose answers are most like its own."""

    original: str
    quantised: str
    gradients: str = Field(description="of the quantised model: `straight-through`, or `none` and why")
    same_answer: Rate = Field(description="clean images to which both give the same answer")
    budgets: list[PrecisionBudget]


class EvalSetRecord(Record):
    name: str
    sha256: str
    licence: str
    classes: list[str]
    available: Count


class AttackRecord(Record):
    name: str
    summary: str = Field(description="what it does, and the paper it comes from")
    minimum_norm: bool
    access: Literal["gradient", "score", "label"] | None = Field(
        default=None, description="what it needs from the model; None: a report of an earlier version"
    )
    params: dict[str, Any]


class StandardRecord(Record):
    """What a framework requires, and where this report answers it; None if this report does not."""

    framework: str
    item: str
    answer: str | None


class Effort(Record):
    """Cost of a cell; ``by``, of an ensemble: images that each member broke, or broke at the smallest distance."""

    cell: Cell
    queries: Count
    seconds: float
    by: dict[str, Count] = Field(default={})


class Report(Record):
    """Everything but ``seconds`` is the same each time that the same request is measured on the same machine."""

    schema_version: Literal[2] = 2
    request: ReportRequest
    evalset: EvalSetRecord
    attacks: list[AttackRecord]
    models: list[ModelReport]
    shared_correct: Count
    edges: dict[Norm, list[float]] = Field(description="bin edges of the histograms of smallest distances")
    transfer: list[TransferMatrix]
    precision: list[PrecisionComparison] = Field(
        default=[], description="each quantised model compared with its float original, if the report has both"
    )
    standards: list[StandardRecord]
    versions: dict[str, str]
    effort: list[Effort]
    left_out: list[str] = Field(default=[], description="what was requested and not measured, to fit a time")
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether every check of every model passed."""
        return all(check.passed for model in self.models for check in model.checks)
