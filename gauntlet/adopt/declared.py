"""What somebody says of their model, and what is recorded of how it was taken."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from gauntlet.manifest import Frozen, Name, Positive

Layout = Literal["nchw", "nhwc", "flat", "flat-nhwc"]
Range = Literal["0..1", "0..255", "-1..1"]
Output = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]

RANGES: dict[Range, tuple[float, float]] = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}


ClassNames = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
    Field(fail_fast=True, min_length=2, max_length=10_000),
]


class Declared(Frozen):
    """What is left out is guessed from the graph, and the answer shows every guess."""

    name: Name
    dataset: Name = Field(default="custom", description="what it was trained on; nothing is looked up by it")
    classes: ClassNames | None = Field(default=None, description="names in the order of the outputs")
    input_shape: tuple[Literal[1, 3], Positive, Positive] | None = Field(
        default=None, description="C, H, W of an image"
    )
    layout: Layout | None = Field(
        default=None, description="flat: C, H, W in a row, whatever the shape; flat-nhwc: H, W, C in a row"
    )
    pixel_range: Range | None = Field(default=None, description="what black and white are to the model")
    mean: Annotated[tuple[FiniteFloat, ...], Field(fail_fast=True)] | None = Field(
        default=None, description="per channel, or one; subtracted from pixels in pixel_range"
    )
    std: Annotated[tuple[Annotated[FiniteFloat, Field(gt=0)], ...], Field(fail_fast=True)] | None = Field(
        default=None, description="divided by, after"
    )
    output: Output | None = None


class DeclaredImages(Frozen):
    """What somebody says of their images."""

    name: Name
    classes: ClassNames | None = Field(default=None, description="names by label; folders of a zip, in this order")
    licence: Annotated[str, Field(min_length=1, max_length=200)] = "not said"
    input_shape: tuple[Literal[1, 3], Positive, Positive] | None = Field(
        default=None,
        description="C, H, W: pictures of a zip are converted to it; by default all must be like the first",
    )
