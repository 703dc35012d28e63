"""The temperature of a classifier's probabilities: fitted on the validation images, evaluated on the test set."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from gauntlet.artifacts.manifest import Metric
from gauntlet.evaluation.calibration import BINS, Reliability, fit_temperature, reliability
from training.data import Examples, to_pixels
from training.export import predict, session
from training.plots import drawn

DIAGRAM_FILE = "reliability.png"


class Calibrated(NamedTuple):
    """A temperature, the calibration error on the test set with and without it, and the reliability diagram."""

    temperature: float
    metrics: dict[str, Metric]
    diagram: Image.Image


def calibrate(model: Path, validation: Examples, test: Examples) -> Calibrated:
    """Fit the temperature of an exported classifier (an ONNX file) and measure its calibration error."""
    served = session(model)
    held_out, logits = (predict(served, to_pixels(part.images)) for part in (validation, test))
    temperature = fit_temperature(held_out, validation.labels)
    before, after = (reliability(logits, test.labels, value) for value in (1.0, temperature))
    n = len(test.labels)
    metrics = {
        "calibration_error": Metric(value=after.error, n=n, split="test"),
        "calibration_error_without_temperature": Metric(value=before.error, n=n, split="test"),
    }
    return Calibrated(temperature, metrics, diagram(before, after, temperature))


def diagram(before: Reliability, after: Reliability, temperature: float) -> Image.Image:
    """Draw accuracy over confidence in bins, at temperature 1 and at the fitted one; the diagonal is perfect."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    edges = np.linspace(0, 1, BINS + 1)
    panels = (("as trained", before), (f"temperature {temperature:.3g}", after))
    for axes, (title, result) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.bar(edges[:-1], np.nan_to_num(result.accuracy), 1 / BINS, align="edge", edgecolor="white")
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        axes.set(title=f"{title}: error {result.error:.3f}", xlabel="probability of the predicted class", xlim=(0, 1))
        axes.set(ylabel="share of right predictions", ylim=(0, 1))
    return drawn(figure)
