"""What the records of a report are made of, and those of the smoothed classifier. All strict JSON."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gauntlet.draws import Smoothing, SmoothingAsked

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
