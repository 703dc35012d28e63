"""Parameters of randomized smoothing. Does not import torch, so that the schemas of the API can use them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.errors import InvalidInput

Sigma = Annotated[float, Field(gt=0, le=10, description="standard deviation of the noise, in pixels of [0, 1]")]


class Draws(BaseModel):
    """The number of noisy images, and the error probability of the certificate."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    guess: Annotated[int, Field(ge=1, le=10_000, description="draws that choose the class")] = 100
    samples: Annotated[int, Field(ge=10, le=1_000_000, description="further draws that prove it")] = 10_000
    alpha: Annotated[float, Field(gt=0, lt=1, description="probability that a certificate is wrong")] = 0.001

    @property
    def per_image(self) -> int:
        """Number of noisy images that the network classifies for each image."""
        return self.guess + self.samples


class Smoothing(Draws):
    """Parameters of a smoothed classifier and of its certificates."""

    sigma: Sigma


class SmoothingAsked(Draws):
    """The parameters in a request: without sigma, that of the noise the model was trained with."""

    sigma: Sigma | None = Field(default=None, description="null: that of the noise the model was trained with")

    def of(self, trained: float | None, name: str) -> Smoothing:
        """Return the parameters for a model trained with noise of standard deviation ``trained``, None: without noise.

        Raises InvalidInput, with the model's name, if neither the request nor the training has a sigma.
        """
        sigma = self.sigma or trained
        if sigma is None:
            raise InvalidInput(
                f"{name} was not trained with noise: say which sigma to smooth it with", "smoothing.sigma"
            )
        return Smoothing(sigma=sigma, guess=self.guess, samples=self.samples, alpha=self.alpha)
