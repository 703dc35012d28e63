"""What goes in and out of POST /certify."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gauntlet.artifacts.manifest import Sha256
from gauntlet.float32 import MAX_EPS
from service.schemas.main_calls import (
    Answer,
    Class,
    Classes,
    Format,
    ImageOut,
    Images,
    ModelName,
    Request,
    Resize,
    Seed,
)

Ball = Literal["linf", "l2"]


class CertifyRequest(Request):
    """Prove or refute that no image of [0, 1] within ``eps`` of each image has another class; one of eps and radius."""

    model: ModelName
    images: Images
    labels: Classes | None = Field(default=None, description="null: the model's own predictions")
    norm: Annotated[Ball, Field(examples=["linf"])] = "linf"
    eps: Annotated[float, Field(ge=0, le=MAX_EPS, examples=[0.01])] | None = None
    radius: Literal["largest"] | None = Field(
        default=None, description="in the place of `eps`: the largest radius that can be certified of each image"
    )
    method: Literal["auto", "lipschitz", "interval", "crown", "alpha-crown", "branch-and-bound"] = Field(
        default="auto", description="auto: all of them, from cheap to dear, until one suffices"
    )
    budget_seconds: Annotated[float, Field(gt=0, le=3000)] = Field(
        default=10.0, description="that all images share: a quarter for attacks, the rest for bounds"
    )
    seed: Seed = 0
    format: Format = "png"
    resize: Resize = False

    @model_validator(mode="after")
    def _one_aim(self) -> "CertifyRequest":
        if (self.eps is None) == (self.radius is None):
            raise ValueError('give eps or "radius": "largest", and not both')
        return self


class Verdict(Answer):
    """One image."""

    status: Literal["certified", "falsified", "unknown"]
    label: Class | None = Field(description="whose stability is in question; null: the model gave no answer")
    class_name: str | None
    radius: float = Field(description="`eps` as asked for, or the largest radius that was certified: 0 for none")
    method: str = Field(
        description="what decided: a kind of bound, an attack, `clean` for an image that is wrong itself"
    )
    bound: float | None = Field(
        description="least margin of `label` over any class within `radius`, less rounding; null: nothing was bounded"
    )
    distance: float | None = Field(description="of `counterexample` from the image, in `norm`")
    adversarial_label: Class | None = Field(description="what the served model says of `counterexample`")
    counterexample: ImageOut | None = Field(
        description="an image of another class, the nearest that was found; with `png` one that 8 bits can hold"
    )
    seconds: float = Field(description="that the bounds of this image took")
    reason: str | None = Field(description="why nothing of it can be bounded; null: something can")


class CertifyResponse(Answer):
    """Results in the order of the images."""

    model: str
    model_sha256: Sha256
    norm: Ball
    results: list[Verdict]
