"""What the records of a report are made of, and those of the smoothed classifier. All strict JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.certify.smoothing_parameters import Smoothing, SmoothingAsked
from gauntlet.norms import Norm

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Immutable, refuses what it does not know, and never NaN or infinite: those are ``None``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rate(Record):
    """``k`` of ``n`` with the 95 % Wilson interval; ``value`` is None where there was nothing to count."""

    value: Share | None
    low: Share
    high: Share
    k: Count
    n: Count


class Distribution(Record):
    """Of ``n`` values, ``failed`` of them infinite; a quantile that falls on an infinite one is None."""

    n: Count
    failed: Count
    q05: float | None
    q25: float | None
    median: float | None
    q75: float | None
    q95: float | None


class SmoothingSpec(SmoothingAsked):
    """Certify the smoothed classifier of every model by randomized smoothing, on the first images of the report."""

    images: Annotated[int, Field(ge=1, le=10_000, description="at most; there are no more than n")] = 100


class BoundsSpec(Record):
    """Prove image by image, in Linf and L2, what interval arithmetic and CROWN can: intervals on every image."""

    model_config = ConfigDict(strict=True)

    images: Annotated[
        int, Field(ge=0, le=10_000, description="the first of them, for CROWN, which takes far longer; 0: none")
    ] = 100


class ProvedRadii(Record):
    """What one method proved of each image; 0: nothing, or it was not tried."""

    norm: Norm
    method: str
    radii: list[float]


class BoundsMeasurement(Record):
    """Of the classes that the model gives to the images."""

    reason: str | None = Field(description="why the graph cannot be bounded; None: it can")
    radii: list[ProvedRadii]


class BoundsReport(Record):
    """Radii that bounds proved of the images that the model classifies correctly, by method."""

    reason: str | None = Field(description="why the graph cannot be bounded; None: it can")
    methods: list["BoundsOfMethod"]


class BoundsOfMethod(Record):
    """Of one method, on the images of which it proved something."""

    norm: Norm
    method: str
    radii: Distribution


class SmoothedMeasurement(Record):
    """Of the smoothed classifier, image by image; ``kept`` and ``inside`` are of the images that were ``shown``."""

    smoothing: Smoothing
    labels: list[int] = Field(description="-1: abstained")
    radii: list[float] = Field(description="L2; 0 where it abstained")
    shown: list[Count] = Field(description="certified images that were moved inside their radius and shown again")
    inside: list[bool] = Field(description="whether the example that led the way lies inside the radius itself")
    kept: list[Count] = Field(description="votes for the label after the move, of ``draws``")
    draws: Count


class SmoothedReport(Record):
    """Of the smoothed classifier, on the first ``accuracy.n`` images."""

    smoothing: Smoothing
    accuracy: Rate = Field(description="right and not abstaining")
    abstained: Count
    radii: Distribution = Field(description="certified L2 radii, where right")


class Temperature(Record):
    """Of a classifier's probabilities, softmax(logits / ``value``), and where it comes from."""

    value: float = Field(gt=0)
    source: Literal["manifest", "held-out images", "none fitted"]


class ProbabilityMeasurement(Record):
    """How sure the classifier is of its predictions, image by image."""

    temperature: Temperature
    confidences: list[float | None] = Field(
        description="probability of the predicted class; None: no answer, or the temperature was fitted on the image"
    )


class ReliabilityBin(Record):
    """Predictions whose probability is between ``low`` and ``high``."""

    low: float
    high: float
    confidence: float = Field(description="mean probability of the predicted class")
    right: Rate


class CalibrationReport(Record):
    """Whether probabilities mean what they say (Guo et al., arXiv 1706.04599), on the first ``n`` images."""

    temperature: Temperature
    n: Count = Field(description="images that were answered and on which no temperature was fitted")
    error: Share | None = Field(description="expected calibration error, over 15 bins of equal width; None: no image")
    bins: list[ReliabilityBin] = Field(description="those that are not empty")
