"""Parts of the records of a report, and the records of smoothing, bounds and calibration. All strict JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.certify.smoothing_parameters import Smoothing, SmoothingAsked
from gauntlet.norms import Norm

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Immutable; refuses unknown fields, and NaN and infinity, for which ``None`` stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rate(Record):
    """``k`` of ``n`` with the 95 % Wilson interval; ``value`` is None if ``n`` is 0."""

    value: Share | None
    low: Share
    high: Share
    k: Count
    n: Count


class Distribution(Record):
    """Quantiles of ``n`` values, ``failed`` of them infinite; a quantile that falls on an infinite one is None."""

    n: Count
    failed: Count
    q05: float | None
    q25: float | None
    median: float | None
    q75: float | None
    q95: float | None


class SmoothingSpec(SmoothingAsked):
    """Certify the smoothed classifier of every model by randomized smoothing, on the first images of the report."""

    images: Annotated[int, Field(ge=1, le=10_000, description="how many are certified, at most n")] = 100


class BoundsSpec(Record):
    """Prove robustness image by image, in Linf and L2: by interval arithmetic for all, by CROWN for the first ones."""

    model_config = ConfigDict(strict=True)

    images: Annotated[
        int, Field(ge=0, le=10_000, description="number of first images for CROWN, which takes far longer; 0: none")
    ] = 100


class ProvedRadii(Record):
    """The radius that one method proved for each image; 0: nothing was proved, or it was not tried."""

    norm: Norm
    method: str
    radii: list[float]


class BoundsMeasurement(Record):
    """Proofs that the predicted class of an image holds, by method."""

    reason: str | None = Field(description="why the graph cannot be bounded; None: it can")
    radii: list[ProvedRadii]


class BoundsReport(Record):
    """Radii that bounds proved, over the images that the model classifies correctly, by method."""

    reason: str | None = Field(description="why the graph cannot be bounded; None: it can")
    methods: list["BoundsOfMethod"]


class BoundsOfMethod(Record):
    """Radii of one method, over the images that are classified correctly and for which it proved something."""

    norm: Norm
    method: str
    radii: Distribution


class SmoothedMeasurement(Record):
    """Results of the smoothed classifier, image by image; ``kept`` and ``inside`` are aligned with ``shown``."""

    smoothing: Smoothing
    labels: list[int] = Field(description="-1: abstained")
    radii: list[float] = Field(description="L2; 0 where it abstained")
    shown: list[Count] = Field(
        description="indices of the certified images that were moved inside their radius and classified again"
    )
    inside: list[bool] = Field(description="whether the example that an image was moved towards lies inside the radius")
    kept: list[Count] = Field(description="votes for the label after the move, out of ``draws``")
    draws: Count


class SmoothedReport(Record):
    """Results of the smoothed classifier, on the first ``accuracy.n`` images."""

    smoothing: Smoothing
    accuracy: Rate = Field(description="classified correctly, without abstaining")
    abstained: Count
    radii: Distribution = Field(description="certified L2 radii of the images classified correctly")


class Temperature(Record):
    """Temperature of a classifier's probabilities, softmax(logits / ``value``), and where it comes from."""

    value: float = Field(gt=0)
    source: Literal["manifest", "held-out images", "none fitted"]


class ProbabilityMeasurement(Record):
    """Confidence of the classifier in its predictions, image by image."""

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
    """Calibration of the probabilities (Guo et al., arXiv 1706.04599), over ``n`` images."""

    temperature: Temperature
    n: Count = Field(description="images that were answered and on which no temperature was fitted")
    error: Share | None = Field(description="expected calibration error, over 15 bins of equal width; None: no image")
    bins: list[ReliabilityBin] = Field(description="those that are not empty")
