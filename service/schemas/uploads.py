"""What goes in and out over HTTP of models and images that users bring."""

from typing import Annotated

from pydantic import ConfigDict, Field

from gauntlet.artifacts.manifest import ClassifierManifest, Name, Sha256
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from service.schemas.main_calls import Answer, Class, Png, Request

WEIGHTS, CLASSES = "weights", "classes"
MORE_FILES = {WEIGHTS: 8, CLASSES: 1}
"""Parts of an upload beside `file`: those in which the model keeps weights, one that names its classes."""


SHARED = "whether every key may see and use it; without it, the key that uploads it and those with the scope admin"


class UploadSettings(ModelSettings):
    """What somebody says of a model that they upload."""

    calibration_set: Name | None = Field(
        default=None,
        description="an evaluation set of this service: the temperature of the probabilities is fitted on images "
        "drawn from it (half of them, at most 500), on which no report judges probabilities; without it it is 1",
    )
    shared: bool = Field(default=False, description=SHARED)

    def of_the_file(self) -> ModelSettings:
        """What conversion needs to know."""
        return ModelSettings(**self.model_dump(exclude={"calibration_set", "shared"}))


class EvalSetSettings(ImageSetSettings):
    """What somebody says of images that they upload."""

    shared: bool = Field(default=False, description=SHARED)

    def of_the_file(self) -> ImageSetSettings:
        """What reading needs to know."""
        return ImageSetSettings(**self.model_dump(exclude={"shared"}))


class CertificateInfo(Answer):
    """What the prover found for a whole model."""

    lipschitz: float | None = Field(description="proved L2 constant of the logits; null: use `smoothing`")
    reason: str
    steepest: float | None = Field(description="the largest Jacobian norm found on noise: the constant is no smaller")
    looseness: float | None = Field(description="lipschitz / steepest: how much too large it may be, at most")


class ModelAdded(Answer):
    """An uploaded model: its manifest shows every guess (`adoption`) and whether attacks have gradients."""

    manifest: ClassifierManifest
    certificate: CertificateInfo


class Sample(Answer):
    """One image of an evaluation set."""

    label: Class
    image: Png


class EvalSetInfo(Answer):
    """An evaluation set; `samples` are its first images."""

    name: str
    n: int
    image_shape: tuple[int, int, int]
    classes: list[str]
    licence: str
    sha256: Sha256
    uploaded: bool
    samples: list[Sample]


class EvalSetList(Answer):
    """Every evaluation set that a report can name."""

    evalsets: list[EvalSetInfo]


class SamplesQuery(Request):
    """How many images to show."""

    model_config = ConfigDict(strict=False)

    samples: Annotated[int, Field(ge=0, le=32)] = 4


class Reloaded(Answer):
    """What was found under GAUNTLET_MODELS: new or changed, and what could not be taken."""

    loaded: list[str]
    refused: dict[str, str]
