"""The manifest of an artefact folder: ``manifest.json``, beside the ONNX file that it describes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(ge=1)]

VERIFIED = "verified"
"""Gradients of a twin whose logits agree with the served model; they agree with finite differences."""


STRAIGHT_THROUGH = "straight-through"
"""Straight-through gradients of a quantised model; steps along them mislead the served model more than random steps."""


class Frozen(BaseModel):
    """Base of every record that Gauntlet writes: immutable; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Split = Literal["train", "validation", "test", "generated"]


class Metric(Frozen):
    """A measured figure, and the number and kind of images that it was measured on."""

    value: float
    n: Positive
    split: Split


class TrainingRecord(Frozen):
    """How the artefact was trained: enough to repeat it."""

    command: str
    config: dict[str, Any]
    seed: int
    epochs: Positive
    selected_epoch: int
    commit: str
    data_sha256: Sha256
    test_sha256: Sha256
    data_official: bool  # whether all training and test files are those that the data set's authors publish
    builds_on: dict[str, Sha256] = Field(default_factory=dict)  # model.onnx of the artefacts that judged it, by name
    hardware: str
    seconds: float
    versions: dict[str, str]


class Choice(Frozen):
    """The value of one setting of an imported model, and where it is from."""

    value: str
    given: bool  # declared by the user; False: found in the file or guessed, see reason
    reason: str


class PreprocessingTrial(Frozen):
    """The usual preprocessings that were tried on labelled images, because the user declared none."""

    taken: str | None  # name of the one chosen; None: none is clearly more accurate than the guess, which is kept
    guess: tuple[int, int]  # images classified correctly with the guess, and images tried
    right: dict[str, tuple[int, int]]  # the same for every usual preprocessing, by name, the best first


class Adoption(Frozen):
    """How a user's ONNX file was converted into this artefact."""

    source_sha256: Sha256
    source_opset: Positive
    source: str | None = None  # the address that it was downloaded from, with revision or version; None: a file
    choices: dict[str, Choice]
    scale: tuple[float, ...] | None = None  # per channel: the network gets pixel * scale + offset; None: not recorded
    offset: tuple[float, ...] | None = None
    bgr: bool = False  # the network expects blue first; scale and offset are in that order
    quantised: bool = False  # whether the file computes, or stores weights, in 8 bits
    trial: PreprocessingTrial | None = None  # None: there were no labelled images, or everything was declared


class _Manifest(Frozen):
    schema_version: Literal[1] = 1
    name: Name
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
    dataset: Name
    metrics: dict[str, Metric]
    files: dict[str, Sha256]
    training: TrainingRecord | None  # None: unknown

    @model_validator(mode="after")
    def _names_its_model(self) -> "_Manifest":
        if MODEL_FILE not in self.files:
            raise ValueError(f"files must hold the sha256 of {MODEL_FILE}")
        return self

    @property
    def model_sha256(self) -> str:
        return self.files[MODEL_FILE]


class ClassifierManifest(_Manifest):
    """Images (B, C, H, W) in [0, 1] to logits (B, len(classes))."""

    kind: Literal["classifier"] = "classifier"
    input_shape: tuple[Positive, Positive, Positive]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    sigma: Annotated[float, Field(gt=0)] | None = None  # of the Gaussian noise in training; None: no noise
    interval_eps: Annotated[float, Field(gt=0)] | None = None  # Linf distance its interval bounds were trained for
    gradients: Annotated[str, Field(pattern=r"^(verified|straight-through|none \(.+\))$")] = (
        VERIFIED  # none: black-box attacks only
    )
    adoption: Adoption | None = None  # None: not imported
    temperature: Annotated[float, Field(gt=0)] = 1.0  # probabilities are softmax(logits / temperature)

    @property
    def differentiable(self) -> bool:
        """Whether attacks that need gradients can be run."""
        return self.gradients in (VERIFIED, STRAIGHT_THROUGH)


class HasManifest(Protocol):
    """Interface of everything that has a classifier's manifest: classifiers, open or not."""

    @property
    def name(self) -> str: ...

    @property
    def manifest(self) -> ClassifierManifest: ...


@dataclass(frozen=True)
class Unopened:
    """A classifier that is not open: only its manifest is needed."""

    manifest: ClassifierManifest

    @property
    def name(self) -> str:
        return self.manifest.name


class GeneratorManifest(_Manifest):
    """Standard normal latents (B, latent_dim) to images (B, C, H, W) in [0, 1]."""

    kind: Literal["generator"] = "generator"
    latent_dim: Positive
    output_shape: tuple[Positive, Positive, Positive]


Manifest = Annotated[ClassifierManifest | GeneratorManifest, Field(discriminator="kind")]
ADAPTER: TypeAdapter[ClassifierManifest | GeneratorManifest] = TypeAdapter(Manifest)


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: Path, names: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """Return the ``files`` field of a manifest for these files of a folder, sorted by name."""
    return {name: sha256_of(folder / name) for name in sorted(names)}
