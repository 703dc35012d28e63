"""What the service answers. Written by client/generate.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from pydantic import BaseModel, Field


class AttackInfo(BaseModel):
    """
    One attack, and the JSON schema of its ``params``.
    """

    name: str
    summary: str
    norms: list[Literal["linf", "l2", "l1", "l0"]]
    minimum_norm: bool
    targeted: bool
    params: dict[str, Any]


class AttackList(BaseModel):
    """
    Every attack.
    """

    attacks: list[AttackInfo]


class AttackRecord(BaseModel):
    name: str
    summary: str
    """
    what it does, and the paper it comes from
    """
    minimum_norm: bool
    access: Literal["gradient", "score", "label"] | None = None
    """
    the most that it asks of the model; None: a report of an earlier version
    """
    params: dict[str, Any]


class AttackSummary(BaseModel):
    """
    Over all images of the request.
    """

    n: int
    clean_accuracy: float | None
    """
    null without labels
    """
    robust_accuracy: float | None
    """
    of all images; null without labels or without eps
    """
    success_rate: float | None
    """
    of the images classified correctly at first
    """
    median_l2: float | None
    """
    same images, a failure counts as infinite; null: the median is one
    """
    seconds: float


class Band(BaseModel):
    """
    All images at one budget: proved to hold, broken (or wrong from the start), and neither.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float
    certified: int
    broken: int
    neither: int


class BoundsSpec(BaseModel):
    """
    Prove image by image, in Linf and L2, what interval arithmetic and CROWN can: intervals on every image.
    """

    images: int | None = 100
    """
    the first of them, for CROWN, which takes far longer; 0: none
    """


class Cell(BaseModel):
    """
    The unit of durable work. ``eps`` None: a minimum-norm attack.
    """

    model: str
    kind: Literal["clean", "checks", "smoothing", "bounds", "attack"] | None = "attack"
    attack: str | None = None
    norm: Literal["linf", "l2", "l1", "l0"] | None = None
    eps: float | None = None
    cost: int
    """
    passes through a network times images
    """


class CertificateInfo(BaseModel):
    """
    What the prover found for a whole model.
    """

    lipschitz: float | None
    """
    proved L2 constant of the logits; null: use `smoothing`
    """
    reason: str
    steepest: float | None
    """
    the largest Jacobian norm found on noise: the constant is no smaller
    """
    looseness: float | None
    """
    lipschitz / steepest: how much too large it may be, at most
    """


class CertificateOut(BaseModel):
    """
    What is proved of one prediction: within ``radius`` in ``norm`` it cannot change.
    """

    norm: Literal["l2"]
    radius: float
    method: str
    lipschitz: float
    """
    proved L2 Lipschitz constant of the logits
    """
    abstained: bool
    """
    nothing could be proved of this prediction
    """


class CheckRecord(BaseModel):
    """
    One check of whether the evaluation is to be believed; what an alarm means, and what to do about it.
    """

    name: str
    passed: bool
    measured: str
    meaning: str
    advice: str


class Choice(BaseModel):
    """
    How one open question about somebody's model was settled.
    """

    value: str
    given: bool
    reason: str


class Distribution(BaseModel):
    """
    Of ``n`` values, ``failed`` of them infinite; a quantile that falls on an infinite one is None.
    """

    n: int
    failed: int
    q05: float | None
    q25: float | None
    median: float | None
    q75: float | None
    q95: float | None


class Effort(BaseModel):
    """
    What a cell cost; of an ensemble, how many images each member broke, or broke at the smallest distance.
    """

    cell: Cell
    queries: int
    seconds: float
    by: dict[str, int] | None = {}


class ErrorBody(BaseModel):
    """
    What went wrong.
    """

    code: str
    message: str
    details: dict[str, Any] | None
    """
    `field` names the part of the request that is wrong
    """
    request_id: str


class EvalSetRecord(BaseModel):
    name: str
    sha256: str
    licence: str
    classes: list[str]
    available: int


class Example(BaseModel):
    """
    One image that an attack broke; the pictures are base64 PNG, ``noise`` amplified around mid-grey.
    """

    index: int
    label: int
    adversarial_label: int
    l2: float
    linf: float
    clean: str
    adversarial: str
    noise: str


class ExampleSet(BaseModel):
    """
    The worst examples: the smallest perturbations of the smallest budget at which the attack broke anything.
    """

    attack: str
    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float | None
    examples: list[Example]


class GenerateResponse(BaseModel):
    """
    Image i came from latent i; the same seed gives the same image i whatever ``n`` is.
    """

    model: str
    model_sha256: str
    seed: int | None
    images: list[str | list[Any]]
    latents: list[list[float]]
    grid: str


class Metric(BaseModel):
    """
    One measured figure, with what it was measured on.
    """

    value: float
    n: int
    split: Literal["train", "validation", "test", "generated"]


class OpeningError(BaseModel):
    """
    Why an uploaded model was refused, as the upload would have been told.
    """

    code: str
    message: str
    details: dict[str, Any] | None = None


class Perturbation(BaseModel):
    """
    Smallest distances that minimum-norm attacks needed. ``attack`` None: the smallest of them, sample by sample.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    attack: str | None
    own: Distribution
    """
    on the images that this model classifies correctly
    """
    shared: Distribution
    """
    on the images that all models of the report classify correctly
    """
    histogram: list[int]
    """
    of `own`, between the edges that the report gives for the norm
    """


class PicturesResponse(BaseModel):
    """
    In the order of the images, in the model's size and colours; sent back they are the same pixels.
    """

    images: list[str]


class PreprocessingTrial(BaseModel):
    """
    The usual preprocessings that were tried on labelled images, because their owner declared none.
    """

    taken: str | None
    guess: tuple[int, int]
    right: dict[str, tuple[int, int]]


class Rate(BaseModel):
    """
    ``k`` of ``n`` with the 95 % Wilson interval; ``value`` is None where there was nothing to count.
    """

    value: float | None
    low: float
    high: float
    k: int
    n: int


class ReliabilityBin(BaseModel):
    """
    Predictions whose probability is between ``low`` and ``high``.
    """

    low: float
    high: float
    confidence: float
    """
    mean probability of the predicted class
    """
    right: Rate


class Reloaded(BaseModel):
    """
    What was found under GAUNTLET_MODELS: new or changed, and what could not be taken.
    """

    loaded: list[str]
    refused: dict[str, str]


class Robustness(BaseModel):
    """
    At one budget. ``attack`` None: the worst of all that were run, sample by sample.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float
    attack: str | None
    accuracy: Rate
    """
    robust accuracy: of all images
    """
    success: Rate
    """
    attack success: of the images classified correctly at first
    """


class Sample(BaseModel):
    """
    One image of an evaluation set.
    """

    label: int
    image: str


class SmoothedCertificate(BaseModel):
    """
    What randomized smoothing (arXiv 1902.02918) says of an image: of the smoothed classifier, not of the model.
    """

    guess: int | None = 100
    """
    draws that choose the class
    """
    samples: int | None = 10000
    """
    draws that prove it
    """
    alpha: float | None = 0.001
    """
    probability that a certificate is wrong
    """
    sigma: float
    """
    deviation of the noise, in pixels of [0, 1]
    """
    norm: Literal["l2"]
    radius: float
    """
    within it the smoothed classifier answers `label`; 0 where it abstained
    """
    method: Literal["randomized smoothing"]
    label: int | None
    """
    the smoothed classifier's; null: it abstained
    """
    class_name: str | None
    abstained: bool
    """
    no class has more than half of the votes at this confidence
    """
    seed: int


class Smoothing(BaseModel):
    """
    What a smoothed classifier and its certificates are made of.
    """

    guess: int | None = 100
    """
    draws that choose the class
    """
    samples: int | None = 10000
    """
    draws that prove it
    """
    alpha: float | None = 0.001
    """
    probability that a certificate is wrong
    """
    sigma: float
    """
    deviation of the noise, in pixels of [0, 1]
    """


class SmoothingSpec(BaseModel):
    """
    Certify the smoothed classifier of every model by randomized smoothing, on the first images of the report.
    """

    guess: int | None = 100
    """
    draws that choose the class
    """
    samples: int | None = 10000
    """
    draws that prove it
    """
    alpha: float | None = 0.001
    """
    probability that a certificate is wrong
    """
    sigma: float | None = None
    """
    null: that of the noise the model was trained with
    """
    images: int | None = 100
    """
    at most; there are no more than n
    """


class StandardRecord(BaseModel):
    """
    What a framework asks for, and where this report answers it; None where this request leaves it open.
    """

    framework: str
    item: str
    answer: str | None


class Temperature(BaseModel):
    """
    Of a classifier's probabilities, softmax(logits / ``value``), and where it comes from.
    """

    value: float
    source: Literal["manifest", "held-out images", "none fitted"]


class ThreatSpec(BaseModel):
    """
    One norm and the budgets at which robust accuracy is wanted.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    eps: list[float]


class TrainingRecord(BaseModel):
    """
    How the artefact came to be: enough to repeat it.
    """

    command: str
    config: dict[str, Any]
    seed: int
    epochs: int
    selected_epoch: int
    commit: str
    data_sha256: str
    test_sha256: str
    data_official: bool
    builds_on: dict[str, str] | None = None
    hardware: str
    seconds: float
    versions: dict[str, str]


class Transfer(BaseModel):
    """
    The returned image shown to another model.
    """

    label: int | None
    """
    null: its answer has NaN or infinite numbers
    """
    fooled: bool
    """
    right on the clean image, and wrong (or: the target) on this one
    """


class TransferRate(BaseModel):
    """
    Examples that fool ``source``, shown to ``target``: fooled, among those it classifies correctly when clean.
    """

    source: str
    target: str
    fooled: Rate


class Verdict(BaseModel):
    """
    One image.
    """

    status: Literal["certified", "falsified", "unknown"]
    label: int | None
    """
    whose stability is in question; null: the model gave no answer
    """
    class_name: str | None
    radius: float
    """
    `eps` as asked for, or the largest radius that was certified: 0 for none
    """
    method: str
    """
    what decided: a kind of bound, an attack, `clean` for an image that is wrong itself
    """
    bound: float | None
    """
    least margin of `label` over any class within `radius`, less rounding; null: nothing was bounded
    """
    distance: float | None
    """
    of `counterexample` from the image, in `norm`
    """
    adversarial_label: int | None
    """
    what the served model says of `counterexample`
    """
    counterexample: str | list[Any] | None
    """
    an image of another class, the nearest that was found; with `png` one that 8 bits can hold
    """
    seconds: float
    """
    that the bounds of this image took
    """
    reason: str | None
    """
    why nothing of it can be bounded; null: something can
    """


class Adoption(BaseModel):
    """
    How somebody's own file became this artefact.
    """

    source_sha256: str
    source_opset: int
    source: str | None = None
    choices: dict[str, Choice]
    scale: list[float] | None = None
    offset: list[float] | None = None
    bgr: bool | None = False
    quantised: bool | None = False
    trial: PreprocessingTrial | None = None


class AttackResult(BaseModel):
    """
    One image. A failed minimum-norm attack has no image, and nothing that would describe it.
    """

    label: int | None
    """
    as asked for, or the model's own; null: it has none
    """
    clean_label: int | None
    """
    null: see `error`
    """
    adversarial_label: int | None
    success: bool
    """
    classified as label before, not after; targeted: as the target after
    """
    l2: float | None
    """
    of the image returned
    """
    linf: float | None
    """
    of the image returned
    """
    minimal_l2: float | None
    """
    of the unrounded result; minimum-norm attacks that succeeded only
    """
    attack: str | None
    """
    whose success it is: of `strongest`, the member
    """
    queries: int
    """
    evaluations of the model by the attack
    """
    image: str | list[Any] | None
    noise: str | list[Any] | None
    """
    the perturbation, amplified around mid-grey
    """
    transfer: dict[str, Transfer]
    error: str | None = None
    """
    why the model gave no answer to the clean image, which counts as wrong; null: it did
    """


class BoundsOfMethod(BaseModel):
    """
    Of one method, on the images of which it proved something.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    method: str
    radii: Distribution


class BoundsReport(BaseModel):
    """
    Radii that bounds proved of the images that the model classifies correctly, by method.
    """

    reason: str | None
    """
    why the graph cannot be bounded; None: it can
    """
    methods: list[BoundsOfMethod]


class CalibrationReport(BaseModel):
    """
    Whether probabilities mean what they say (Guo et al., arXiv 1706.04599), on the first ``n`` images.
    """

    temperature: Temperature
    n: int
    """
    images that were answered and on which no temperature was fitted
    """
    error: float | None
    """
    expected calibration error, over 15 bins of equal width; None: no image
    """
    bins: list[ReliabilityBin]
    """
    those that are not empty
    """


class CertificateRecord(BaseModel):
    """
    ``lipschitz`` is the proved L2 constant of the whole logit map, None (and a ``reason``) where none is proved.
    """

    lipschitz: float | None
    method: str
    reason: str
    slopes: Distribution
    """
    spectral norms of the Jacobian found around single images
    """
    steepest: float
    """
    the largest of them; it must not exceed the proved constant
    """
    ratio: Distribution | None
    """
    smallest L2 distance found over certified radius, where correct
    """
    contradictions: int
    """
    images broken inside a radius that anything certifies: must be 0
    """
    contradicted: list[int]
    """
    the first of them
    """
    refuted: bool
    """
    the Jacobian found is larger than the constant proved: must be false
    """


class CertifyResponse(BaseModel):
    """
    Results in the order of the images.
    """

    model: str
    model_sha256: str
    norm: Literal["linf", "l2"]
    results: list[Verdict]


class ClassBudget(BaseModel):
    """
    Of the images of one class, at one budget: what stands against all the attacks, and what is proved.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float
    robust: Rate
    certified: Rate | None
    """
    None: no certificate
    """


class ClassReport(BaseModel):
    """
    The images of one class.
    """

    label: int
    clean: Rate
    budgets: list[ClassBudget]
    taken_for: int | None
    """
    what its broken images are most often called; None: none was broken
    """


class ClassifierManifest(BaseModel):
    """
    Images (B, C, H, W) in [0, 1] to logits (B, len(classes)).
    """

    schema_version: Literal[1] = 1
    name: str
    family: Literal[
        "standard",
        "lipschitz",
        "lipschitz-paper",
        "penalty",
        "adversarial",
        "smoothed",
        "interval",
        "gan",
        "dcgan",
        "vae",
        "custom",
    ]
    dataset: str
    metrics: dict[str, Metric]
    files: dict[str, str]
    training: TrainingRecord | None
    kind: Literal["classifier"] = "classifier"
    input_shape: tuple[int, int, int]
    classes: list[str]
    sigma: float | None = None
    interval_eps: float | None = None
    gradients: str | None = "verified"
    adoption: Adoption | None = None
    temperature: float | None = 1.0


class CurvePoint(BaseModel):
    eps: float
    rate: Rate


class Envelope(BaseModel):
    """
    The body of every 4xx and 5xx.
    """

    error: ErrorBody


class EvalSetInfo(BaseModel):
    """
    An evaluation set; `samples` are its first images.
    """

    name: str
    n: int
    image_shape: tuple[int, int, int]
    classes: list[str]
    licence: str
    sha256: str
    uploaded: bool
    samples: list[Sample]


class EvalSetList(BaseModel):
    """
    Every evaluation set that a report can name.
    """

    evalsets: list[EvalSetInfo]


class GeneratorManifest(BaseModel):
    """
    Standard normal latents (B, latent_dim) to images (B, C, H, W) in [0, 1].
    """

    schema_version: Literal[1] = 1
    name: str
    family: Literal[
        "standard",
        "lipschitz",
        "lipschitz-paper",
        "penalty",
        "adversarial",
        "smoothed",
        "interval",
        "gan",
        "dcgan",
        "vae",
        "custom",
    ]
    dataset: str
    metrics: dict[str, Metric]
    files: dict[str, str]
    training: TrainingRecord | None
    kind: Literal["generator"] = "generator"
    latent_dim: int
    output_shape: tuple[int, int, int]


class ModelAdded(BaseModel):
    """
    An uploaded model: its manifest shows every guess (`adoption`) and whether attacks have gradients.
    """

    manifest: ClassifierManifest
    certificate: CertificateInfo


class ModelOpening(BaseModel):
    """
    An uploaded model that cannot be used: it is being opened, or was refused, which is told for an hour.
    """

    name: str
    state: Literal["opening", "failed"]
    stage: (
        Literal["waiting", "fetching", "converting", "verifying", "storing"] | None
    ) = "waiting"
    progress: float | None = 0.0
    """
    by stages, not by time
    """
    error: OpeningError | None = None


class PrecisionBudget(BaseModel):
    """
    A float model and its quantised copy at one budget, each under all attacks made on itself.
    """

    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float
    original: Rate
    """
    robust accuracy of the float model
    """
    quantised: Rate
    """
    robust accuracy of the copy
    """
    broken_too: Rate
    """
    of the images that both classify correctly and attacks on the float model break: those that attacks on the copy break as well
    """
    to_quantised: Rate
    """
    of the images that the copy classifies correctly: fooled by an example made on the float model
    """
    to_original: Rate
    """
    the same of the float model and examples made on the copy
    """


class PrecisionComparison(BaseModel):
    """
    A quantised model beside the float model of the report whose answers are most like its own.
    """

    original: str
    quantised: str
    gradients: str
    """
    of the quantised model: `straight-through`, or `none` and why
    """
    same_answer: Rate
    """
    clean images to which both give the same answer
    """
    budgets: list[PrecisionBudget]


class Prediction(BaseModel):
    """
    One image. Where the model answers with NaN or infinite numbers, `error` says so and all the rest is null.
    """

    label: int | None
    class_name: str | None
    probability: float | None
    """
    of `label`
    """
    probabilities: list[float] | None
    """
    softmax(logits / temperature); the manifest has the latter
    """
    margin: float | None
    """
    largest logit less the second largest
    """
    certified_radius: float | None
    """
    deterministic L2 radius in pixel units; null: none proved, or `smoothing` was asked for
    """
    certified_linf_radius: float | None
    """
    Linf radius by interval arithmetic; null: the model was not trained for it, ask POST /certify
    """
    certificate: CertificateOut | SmoothedCertificate | None
    error: str | None = None
    """
    why the model gave no answer to this image; null: it did
    """


class ReadyClassifier(BaseModel):
    """
    A classifier that can be used: its manifest, and of an uploaded one what was proved when it was opened.
    """

    schema_version: Literal[1] = 1
    name: str
    family: Literal[
        "standard",
        "lipschitz",
        "lipschitz-paper",
        "penalty",
        "adversarial",
        "smoothed",
        "interval",
        "gan",
        "dcgan",
        "vae",
        "custom",
    ]
    dataset: str
    metrics: dict[str, Metric]
    files: dict[str, str]
    training: TrainingRecord | None
    kind: Literal["classifier"] = "classifier"
    input_shape: tuple[int, int, int]
    classes: list[str]
    sigma: float | None = None
    interval_eps: float | None = None
    gradients: str | None = "verified"
    adoption: Adoption | None = None
    temperature: float | None = 1.0
    state: Literal["ready"] = "ready"
    certificate: CertificateInfo | None = None


class ReadyGenerator(BaseModel):
    """
    A generator that can be used: its manifest.
    """

    schema_version: Literal[1] = 1
    name: str
    family: Literal[
        "standard",
        "lipschitz",
        "lipschitz-paper",
        "penalty",
        "adversarial",
        "smoothed",
        "interval",
        "gan",
        "dcgan",
        "vae",
        "custom",
    ]
    dataset: str
    metrics: dict[str, Metric]
    files: dict[str, str]
    training: TrainingRecord | None
    kind: Literal["generator"] = "generator"
    latent_dim: int
    output_shape: tuple[int, int, int]
    state: Literal["ready"] = "ready"


class ReportAccepted(BaseModel):
    """
    Where to ask for the report.
    """

    id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """
    As the API tells it.
    """
    status_url: str
    report_url: str


class ReportItem(BaseModel):
    """
    A report without its content.
    """

    id: str
    models: list[str]
    dataset: str
    n: int
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """
    As the API tells it.
    """
    progress: float
    """
    never falls
    """
    eta_seconds: float | None
    created_at: str
    error: str | None
    sound: bool | None
    """
    every check passed: the figures can be believed; null: it is not known
    """
    status_url: str
    report_url: str


class ReportList(BaseModel):
    """
    Newest first; ``next_cursor`` null: there are no more.
    """

    items: list[ReportItem]
    next_cursor: str | None


class ReportRequest(BaseModel):
    """
    The first ``n`` images of an evaluation set, every model under every attack and threat that go together.
    """

    models: list[str]
    dataset: str
    n: int
    threats: list[ThreatSpec] | None = Field(
        [{"norm": "l2", "eps": [0.25, 0.5, 1.0]}, {"norm": "linf", "eps": [0.03, 0.1]}],
        validate_default=True,
    )
    attacks: list[str] | None = None
    """
    each in all of its norms that are asked for; by default a few for each norm
    """
    seed: int | None = 0
    checked: int | None = None
    """
    images that the checks examine, at most; by default 64
    """
    budget_seconds: float | None = None
    """
    plan a report of about that length on one worker: fewer images, then fewer attacks and checked images, measured by passes of the models; `left_out` of the report says what that left out
    """
    smoothing: SmoothingSpec | None = None
    """
    certify the smoothed classifier as well
    """
    bounds: BoundsSpec | None = None
    """
    prove image by image what bounds of the logits can
    """


class SmoothedReport(BaseModel):
    """
    Of the smoothed classifier, on the first ``accuracy.n`` images.
    """

    smoothing: Smoothing
    accuracy: Rate
    """
    right and not abstaining
    """
    abstained: int
    radii: Distribution
    """
    certified L2 radii, where right
    """


class TransferMatrix(BaseModel):
    attack: str
    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float | None
    rates: list[TransferRate]


class AttackResponse(BaseModel):
    """
    Results in the order of the images.
    """

    model: str
    model_sha256: str
    gradients: str
    """
    `verified`, `straight-through` (quantised models), or `none` and why
    """
    attack: str
    norm: Literal["linf", "l2", "l1", "l0"]
    eps: float | None
    results: list[AttackResult]
    summary: AttackSummary


class ClassifyResponse(BaseModel):
    """
    Predictions in the order of the images.
    """

    model: str
    model_sha256: str
    predictions: list[Prediction]


class Curve(BaseModel):
    """
    Accuracy over eps: ``robust`` from the smallest distance found (an upper bound), ``certified`` a lower bound.

    ``smoothed``: a lower bound too, but of the smoothed classifier, up to its alpha, and over fewer images.
    """

    kind: Literal["robust", "certified", "smoothed"]
    norm: Literal["linf", "l2", "l1", "l0"]
    derived_from: Literal["linf", "l2", "l1", "l0"] | None
    """
    the norm in which all was proved, if another: L2 balls inside
    """
    points: list[CurvePoint]


class ModelList(BaseModel):
    """
    The manifests of all models that can be used, and uploads that cannot.
    """

    models: list[
        Annotated[ClassifierManifest | GeneratorManifest, Field(discriminator="kind")]
    ]
    opening: list[ModelOpening] | None = Field([], validate_default=True)


class ModelReport(BaseModel):
    name: str
    family: str
    sha256: str
    source: str | None = None
    """
    where somebody's file was fetched from, with revision or version; None: a file
    """
    source_sha256: str | None = None
    """
    of the file as it came; None: trained here
    """
    device: str
    gradients: str | None = None
    """
    `verified`, `straight-through` (quantised models) or `none` and why; None: an older version
    """
    preprocessing: PreprocessingTrial | None = None
    """
    how labelled images chose what its owner did not declare; None: they did not
    """
    clean: Rate
    top5: Rate | None = None
    """
    clean images whose class is among the five likeliest; None: 20 classes or fewer
    """
    margins: Distribution
    checks: list[CheckRecord]
    certificate: CertificateRecord
    smoothed: SmoothedReport | None = None
    calibration: CalibrationReport | None = None
    """
    None: measured by an older version
    """
    bounds: BoundsReport | None = None
    bands: list[Band] | None = Field([], validate_default=True)
    """
    at each budget asked for, where anything is proved
    """
    robustness: list[Robustness]
    perturbations: list[Perturbation]
    curves: list[Curve]
    classes: list[ClassReport]
    """
    by number; of more than 20 that have images, the 20 that stand least against the attacks
    """
    classes_left_out: int | None = 0
    """
    classes that have images and are not listed
    """
    examples: list[ExampleSet]


class Report(BaseModel):
    """
    Everything but ``seconds`` is the same each time that the same request is measured on the same machine.
    """

    schema_version: Literal[2] = 2
    request: ReportRequest
    evalset: EvalSetRecord
    attacks: list[AttackRecord]
    models: list[ModelReport]
    shared_correct: int
    edges: dict[Literal["linf", "l2", "l1", "l0"], list[float]]
    """
    of the histograms of smallest distances
    """
    transfer: list[TransferMatrix]
    precision: list[PrecisionComparison] | None = Field([], validate_default=True)
    """
    each quantised model beside its float original, where the report has both
    """
    standards: list[StandardRecord]
    versions: dict[str, str]
    effort: list[Effort]
    left_out: list[str] | None = []
    """
    what was asked for and not measured, to fit a time
    """
    seconds: float


class ReportStatus(BaseModel):
    """
    A report, with its content once it has succeeded.
    """

    id: str
    models: list[str]
    dataset: str
    n: int
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """
    As the API tells it.
    """
    progress: float
    """
    never falls
    """
    eta_seconds: float | None
    created_at: str
    error: str | None
    sound: bool | None
    """
    every check passed: the figures can be believed; null: it is not known
    """
    status_url: str
    report_url: str
    report: Report | None
