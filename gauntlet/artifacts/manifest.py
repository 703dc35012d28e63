"""What an artefact folder says of itself: one ``manifest.json`` beside the ONNX file it describes."""

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
"""Gradients that agree with finite differences, of a twin that agrees with what is served."""


STRAIGHT_THROUGH = "straight-through"
"""Gradients of a quantised model that pass every rounding; steps along them mislead what is served more than chance."""


class Frozen(BaseModel):
    """Base of every record that Gauntlet writes: immutable, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Split = Literal["train", "validation", "test", "generated"]


class Metric(Frozen):
    """One measured figure, with what it was measured on."""

    value: float
    n: Positive
    split: Split


class TrainingRecord(Frozen):
    """How the artefact came to be: enough to repeat it."""

    command: str
    config: dict[str, Any]
    seed: int
    epochs: Positive
    selected_epoch: int
    commit: str
    data_sha256: Sha256
    test_sha256: Sha256
    data_official: bool  # whether all files, for training and test, are those that the data set's authors publish
    builds_on: dict[str, Sha256] = Field(default_factory=dict)  # model.onnx of artefacts that it was judged by, by name
    hardware: str
    seconds: float
    versions: dict[str, str]


class Choice(Frozen):
    """How one open question about somebody's model was settled."""

    value: str
    given: bool  # said by its owner; False: found in the file or guessed, as the reason says
    reason: str


class PreprocessingTrial(Frozen):
    """The usual preprocessings that were tried on labelled images, because their owner declared none."""

    taken: str | None  # None: none is right clearly more often than the guess, which stays
    guess: tuple[int, int]  # images that the model classifies correctly as it was guessed, and images tried
    right: dict[str, tuple[int, int]]  # the same of every usual preprocessing by its name, the best first


class Adoption(Frozen):
    """How somebody's own file became this artefact."""

    source_sha256: Sha256
    source_opset: Positive
    source: str | None = None  # the address that it was fetched from, with revision or version; None: a file
    choices: dict[str, Choice]
    scale: tuple[float, ...] | None = None  # per channel: the network gets pixel * scale + offset; None: not recorded
    offset: tuple[float, ...] | None = None
    bgr: bool = False  # the network gets blue first; scale and offset are in its order
    quantised: bool = False  # whether the file computes or keeps weights in eight bits
    trial: PreprocessingTrial | None = None  # None: no labelled images were there, or nothing was left open


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
    training: TrainingRecord | None  # None: nothing is known of it

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
    sigma: Annotated[float, Field(gt=0)] | None = None  # of the Gaussian noise it was trained with; None: without
    interval_eps: Annotated[float, Field(gt=0)] | None = None  # Linf distance its interval bounds were trained for
    gradients: Annotated[str, Field(pattern=r"^(verified|straight-through|none \(.+\))$")] = (
        VERIFIED  # none: black-box attacks only
    )
    adoption: Adoption | None = None  # None: trained here
    temperature: Annotated[float, Field(gt=0)] = 1.0  # probabilities are softmax(logits / temperature)

    @property
    def differentiable(self) -> bool:
        """Whether attacks that need gradients can be run."""
        return self.gradients in (VERIFIED, STRAIGHT_THROUGH)


class HasManifest(Protocol):
    """A classifier, or what is known of one that nobody has opened."""

    @property
    def name(self) -> str: ...

    @property
    def manifest(self) -> ClassifierManifest: ...


@dataclass(frozen=True)
class Unopened:
    """A classifier of which nothing but its manifest is needed."""

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
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: Path, names: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """The ``files`` field for these files of a folder, sorted by name."""
    return {name: sha256_of(folder / name) for name in sorted(names)}
