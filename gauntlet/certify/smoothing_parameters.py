"""How a classifier is to be smoothed, in numbers. Free of torch, so that a schema can speak of it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.errors import InvalidInput

Sigma = Annotated[float, Field(gt=0, le=10, description="deviation of the noise, in pixels of [0, 1]")]


class Draws(BaseModel):
    """How many noisy images are looked at, and how sure their share must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    guess: Annotated[int, Field(ge=1, le=10_000, description="draws that choose the class")] = 100
    samples: Annotated[int, Field(ge=10, le=1_000_000, description="draws that prove it")] = 10_000
    alpha: Annotated[float, Field(gt=0, lt=1, description="probability that a certificate is wrong")] = 0.001

    @property
    def per_image(self) -> int:
        """Passes through the network."""
        return self.guess + self.samples


class Smoothing(Draws):
    """What a smoothed classifier and its certificates are made of."""

    sigma: Sigma


class SmoothingAsked(Draws):
    """The same in a request."""

    sigma: Sigma | None = Field(default=None, description="null: that of the noise the model was trained with")

    def of(self, trained: float | None, name: str) -> Smoothing:
        """For the model of this name, trained with noise of this deviation (None: without). Raises InvalidInput."""
        sigma = self.sigma or trained
        if sigma is None:
            raise InvalidInput(
                f"{name} was not trained with noise: say which sigma to smooth it with", "smoothing.sigma"
            )
        return Smoothing(sigma=sigma, guess=self.guess, samples=self.samples, alpha=self.alpha)
