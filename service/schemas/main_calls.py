"""What goes in and out over HTTP: flat JSON bodies that refuse what they do not know, and never NaN."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gauntlet.artifacts.manifest import ClassifierManifest, GeneratorManifest, Sha256
from gauntlet.certify.smoothing_parameters import Smoothing, SmoothingAsked
from gauntlet.float32 import MAX_EPS, Float32
from gauntlet.norms import Norm
from gauntlet.report.schema import Report
from service.errors import Code
from service.jobs.status import Status

FORMAT_DESCRIPTION = "png: base64 PNG strings; array: nested lists of floats in [0, 1], shaped C, H, W"
IMAGE_IN = {
    "description": (
        "base64 of PNG, JPEG or WebP bytes, or nested lists of floats in [0, 1] shaped C, H, W (grey: H, W). EXIF "
        "orientation is obeyed, transparent pixels lie on black; 16 bits a channel and animations are refused"
    ),
    "oneOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "array", "items": {}}],
}
IMAGE_OUT = {
    "description": "a base64 PNG string or nested lists of floats in [0, 1] shaped C, H, W, as `format` asks for",
    "oneOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "array", "items": {}}],
}
GREY = "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAFklEQVR42mNsYMANmBhGJUclRyWhAADxiwC4gQrlWAAAAABJRU5ErkJggg=="
"""An image of 28 x 28 pixels, for the examples in /openapi.json: they are requests that succeed."""
PNG = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}


def _image(value: object) -> object:
    if not isinstance(value, (str, list)):
        raise ValueError("an image is a base64 string or a nested list of floats")
    return value


ImageIn = Annotated[Any, BeforeValidator(_image), WithJsonSchema(IMAGE_IN)]
ImageOut = Annotated[Any, WithJsonSchema(IMAGE_OUT)]
Png = Annotated[str, WithJsonSchema(PNG)]
ModelName = Annotated[str, Field(min_length=1, max_length=64, examples=["fashion-mnist-standard"])]
Seed = Annotated[int, Field(ge=0, lt=2**53)]  # what every JSON reader keeps exact
Class = Annotated[int, Field(ge=0)]
Classes = Annotated[list[Class], Field(fail_fast=True)]  # a complaint for each of a million would take a minute
Latent = Annotated[list[Float32], Field(fail_fast=True)]
Format = Annotated[Literal["png", "array"], Field(description=FORMAT_DESCRIPTION)]
Resize = Annotated[
    bool,
    Field(
        description="scale pictures of another size (bilinear), make them grey or colour; else they are refused. "
        "Labels, distances, eps and certificates are then of the picture at the size of the model"
    ),
]
Images = Annotated[list[ImageIn], Field(fail_fast=True, min_length=1, examples=[[GREY]])]


class Request(BaseModel):
    """Base of the bodies that are read; 0 is not false there. Errors never quote the input: it may be an image."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Answer(BaseModel):
    """Base of the bodies that are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# /classify


class SmoothingIn(SmoothingAsked):
    """Certify the smoothed classifier: what the model answers most often when Gaussian noise is added to the image."""

    seed: Seed | None = Field(default=None, description="null: drawn, for noise that nobody could foresee")


class ClassifyRequest(Request):
    """Images to predict."""

    model: ModelName
    images: Images
    resize: Resize = False
    smoothing: SmoothingIn | None = Field(default=None, description="priced and timed as an attack is")


class CertificateOut(Answer):
    """What is proved of one prediction: within ``radius`` in ``norm`` it cannot change."""

    norm: Literal["l2"]
    radius: float
    method: str
    lipschitz: float = Field(description="proved L2 Lipschitz constant of the logits")
    abstained: bool = Field(description="nothing could be proved of this prediction")


class SmoothedCertificate(Smoothing, Answer):
    """What randomized smoothing (arXiv 1902.02918) says of an image: of the smoothed classifier, not of the model."""

    norm: Literal["l2"]
    radius: float = Field(description="within it the smoothed classifier answers `label`; 0 where it abstained")
    method: Literal["randomized smoothing"]
    label: Class | None = Field(description="the smoothed classifier's; null: it abstained")
    class_name: str | None
    abstained: bool = Field(description="no class has more than half of the votes at this confidence")
    seed: Seed


class Prediction(Answer):
    """One image. Where the model answers with NaN or infinite numbers, `error` says so and all the rest is null."""

    label: Class | None
    class_name: str | None
    probability: float | None = Field(description="of `label`")
    probabilities: list[float] | None = Field(description="softmax(logits / temperature); the manifest has the latter")
    margin: float | None = Field(description="largest logit less the second largest")
    certified_radius: float | None = Field(
        description="deterministic L2 radius in pixel units; null: none proved, or `smoothing` was asked for"
    )
    certified_linf_radius: float | None = Field(
        description="Linf radius by interval arithmetic; null: the model was not trained for it, ask POST /certify"
    )
    certificate: CertificateOut | SmoothedCertificate | None
    error: str | None = Field(default=None, description="why the model gave no answer to this image; null: it did")


class ClassifyResponse(Answer):
    """Predictions in the order of the images."""

    model: str
    model_sha256: Sha256
    predictions: list[Prediction]


# /pictures


class PicturesRequest(Request):
    """Images to show as a classifier sees them."""

    model: ModelName
    images: Images
    resize: Resize = False
    invert: bool = Field(default=False, description="1 less each pixel: the data sets are light on dark")


class PicturesResponse(Answer):
    """In the order of the images, in the model's size and colours; sent back they are the same pixels."""

    images: list[Png]


# /generate


class GenerateRequest(Request):
    """Draw ``n`` images, or decode the ``latents`` given."""

    model: Annotated[str, Field(min_length=1, max_length=64, examples=["fashion-mnist-gan"])]
    n: Annotated[int, Field(ge=1)] | None = Field(default=None, description="16 unless latents are given")
    seed: Seed | None = Field(default=None, description="null: one is drawn and returned")
    latents: Annotated[list[Latent], Field(fail_fast=True, min_length=1)] | None = None
    format: Format = "png"

    @model_validator(mode="after")
    def _one_source(self) -> "GenerateRequest":
        if self.latents is not None and self.seed is not None:
            raise ValueError("give seed or latents, not both")
        if self.latents is not None and self.n not in (None, len(self.latents)):
            raise ValueError("n must be the number of latents, or left out")
        return self


class GenerateResponse(Answer):
    """Image i came from latent i; the same seed gives the same image i whatever ``n`` is."""

    model: str
    model_sha256: Sha256
    seed: Seed | None
    images: list[ImageOut]
    latents: list[list[float]]
    grid: Png


# /attack


class AttackRequest(Request):
    """Images to perturb until the model errs. ``eps`` is in pixel units; minimum-norm attacks need none."""

    model: ModelName
    attack: Annotated[str, Field(min_length=1, max_length=64, examples=["pgd"])]
    images: Images
    labels: Classes | None = Field(default=None, description="null: the model's own predictions")
    target_labels: Classes | None = Field(default=None, description="what the model shall say instead")
    norm: Annotated[Norm, Field(examples=["linf"])]
    eps: Annotated[float, Field(ge=0, le=MAX_EPS, examples=[0.1])] | None = None
    seed: Seed = 0
    params: dict[str, Any] = Field(default_factory=dict, description="see GET /attacks")
    transfer_to: Annotated[list[ModelName], Field(max_length=8)] = Field(default_factory=list)
    format: Format = "png"
    resize: Resize = False


class Transfer(Answer):
    """The returned image shown to another model."""

    label: Class | None = Field(description="null: its answer has NaN or infinite numbers")
    fooled: bool = Field(description="right on the clean image, and wrong (or: the target) on this one")


class AttackResult(Answer):
    """One image. A failed minimum-norm attack has no image, and nothing that would describe it."""

    label: Class | None = Field(description="as asked for, or the model's own; null: it has none")
    clean_label: Class | None = Field(description="null: see `error`")
    adversarial_label: Class | None
    success: bool = Field(description="classified as label before, not after; targeted: as the target after")
    l2: float | None = Field(description="of the image returned")
    linf: float | None = Field(description="of the image returned")
    minimal_l2: float | None = Field(description="of the unrounded result; minimum-norm attacks that succeeded only")
    attack: str | None = Field(description="whose success it is: of `strongest`, the member")
    queries: int = Field(description="evaluations of the model by the attack")
    image: ImageOut | None
    noise: ImageOut | None = Field(description="the perturbation, amplified around mid-grey")
    transfer: dict[str, Transfer]
    error: str | None = Field(
        default=None, description="why the model gave no answer to the clean image, which counts as wrong; null: it did"
    )


class AttackSummary(Answer):
    """Over all images of the request."""

    n: int
    clean_accuracy: float | None = Field(description="null without labels")
    robust_accuracy: float | None = Field(description="of all images; null without labels or without eps")
    success_rate: float | None = Field(description="of the images classified correctly at first")
    median_l2: float | None = Field(description="same images, a failure counts as infinite; null: the median is one")
    seconds: float


class AttackResponse(Answer):
    """Results in the order of the images."""

    model: str
    model_sha256: Sha256
    gradients: str = Field(description="`verified`, `straight-through` (quantised models), or `none` and why")
    attack: str
    norm: Norm
    eps: float | None
    results: list[AttackResult]
    summary: AttackSummary


# /robustness-report


class ReportQuery(Request):
    """Which reports to list. The values of a query are text."""

    model_config = ConfigDict(strict=False)

    status: Status | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,14}\.[0-9]{1,6}$")] | None = Field(
        default=None, description="next_cursor of a page"
    )


class ReportAccepted(Answer):
    """Where to ask for the report."""

    id: str
    status: Status
    status_url: str
    report_url: str


class ReportItem(Answer):
    """A report without its content."""

    id: str
    models: list[str]
    dataset: str
    n: int
    status: Status
    progress: float = Field(ge=0, le=1, description="never falls")
    eta_seconds: float | None
    created_at: str
    error: str | None
    sound: bool | None = Field(description="every check passed: the figures can be believed; null: it is not known")
    status_url: str
    report_url: str


class ReportStatus(ReportItem):
    """A report, with its content once it has succeeded."""

    report: Report | None


class ReportList(Answer):
    """Newest first; ``next_cursor`` null: there are no more."""

    items: list[ReportItem]
    next_cursor: str | None


# The rest


class OpeningError(Answer):
    """Why an uploaded model was refused, as the upload would have been told."""

    code: Code
    message: str
    details: dict[str, Any] | None = None


class ModelOpening(Answer):
    """An uploaded model that cannot be used: it is being opened, or was refused, which is told for an hour."""

    name: str
    state: Literal["opening", "failed"]
    stage: Literal["waiting", "fetching", "converting", "verifying", "storing"] = "waiting"
    progress: Annotated[float, Field(ge=0, le=1, description="by stages, not by time")] = 0.0
    error: OpeningError | None = None


class CertificateInfo(Answer):
    """What the prover found for a whole model."""

    lipschitz: float | None = Field(description="proved L2 constant of the logits; null: use `smoothing`")
    reason: str
    steepest: float | None = Field(description="the largest Jacobian norm found on noise: the constant is no smaller")
    looseness: float | None = Field(description="lipschitz / steepest: how much too large it may be, at most")


class ReadyClassifier(ClassifierManifest):
    """A classifier that can be used: its manifest, and of an uploaded one what was proved when it was opened."""

    state: Literal["ready"] = "ready"
    certificate: CertificateInfo | None = None


class ReadyGenerator(GeneratorManifest):
    """A generator that can be used: its manifest."""

    state: Literal["ready"] = "ready"


class ModelList(Answer):
    """The manifests of all models that can be used, and uploads that cannot."""

    models: list[Annotated[ClassifierManifest | GeneratorManifest, Field(discriminator="kind")]]
    opening: list[ModelOpening] = []


class AttackInfo(Answer):
    """One attack, and the JSON schema of its ``params``."""

    name: str
    summary: str
    norms: list[Norm]
    minimum_norm: bool
    targeted: bool
    params: dict[str, Any]


class AttackList(Answer):
    """Every attack."""

    attacks: list[AttackInfo]


class ErrorBody(Answer):
    """What went wrong."""

    code: Code
    message: str
    details: dict[str, Any] | None = Field(description="`field` names the part of the request that is wrong")
    request_id: str


class Envelope(Answer):
    """The body of every 4xx and 5xx."""

    error: ErrorBody
