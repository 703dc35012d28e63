"""The settings that a user can declare for a model or a set of images."""

from typing import Annotated, Literal

from pydantic import Field

from gauntlet.artifacts.manifest import Frozen, Name, Positive
from gauntlet.float32 import Float32
from gauntlet.text import Storable

Layout = Literal["nchw", "nhwc", "flat", "flat-nhwc"]
Range = Literal["0..1", "0..255", "-1..1"]
Colours = Literal["rgb", "bgr"]
Output = Literal["logits", "probabilities", "log-probabilities", "sigmoid"]

RANGES: dict[Range, tuple[float, float]] = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}


ClassNames = Annotated[
    tuple[Annotated[Storable, Field(min_length=1, max_length=200)], ...],
    Field(fail_fast=True, min_length=2, max_length=10_000),
]


class ModelSettings(Frozen):
    """Settings of a model. Those that are not declared are guessed from the graph, and the answer shows every guess."""

    name: Name
    dataset: Name = Field(default="custom", description="the data set that it was trained on; for information only")
    classes: ClassNames | None = Field(default=None, description="names in the order of the outputs")
    input_shape: tuple[Literal[1, 3], Positive, Positive] | None = Field(
        default=None, description="C, H, W of an image"
    )
    layout: Layout | None = Field(
        default=None, description="flat: C, H, W in a row, whatever the shape; flat-nhwc: H, W, C in a row"
    )
    pixel_range: Range | None = Field(default=None, description="values that the model expects for black and white")
    channels: Colours | None = Field(
        default=None, description="the order of colours that the model expects; rgb by default"
    )
    mean: Annotated[tuple[Float32, ...], Field(fail_fast=True)] | None = Field(
        default=None, description="per channel in the order of channels, or one; subtracted from pixels in pixel_range"
    )
    std: Annotated[tuple[Annotated[Float32, Field(gt=0)], ...], Field(fail_fast=True)] | None = Field(
        default=None, description="per channel, or one; pixels are divided by it after mean is subtracted"
    )
    output: Output | None = None
    output_name: Annotated[Storable, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="the output of the graph that has the answers, if there are several"
    )


class ImageSetSettings(Frozen):
    """Settings of a set of labelled images."""

    name: Name
    classes: ClassNames | None = Field(
        default=None,
        description="names by label; folders of a zip, in this order; by default folders named by "
        "numbers, or by a number before a name as in 0_cat, sort as numbers, and others as text",
    )
    licence: Annotated[Storable, Field(min_length=1, max_length=200)] = "not said"
    input_shape: tuple[Literal[1, 3], Positive, Positive] | None = Field(
        default=None,
        description="C, H, W: pictures of a zip are converted to it; by default all must be like the first",
    )
