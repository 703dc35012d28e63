"""Calibration of a model's probabilities: its temperature, and the calibration error over bins."""

import numpy as np
import torch
from torch import Tensor

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.evaluation import calibration
from gauntlet.evaluation.held_out_images import fitted_temperature, held_out, is_settled
from gauntlet.report import statistics
from gauntlet.report.records import CalibrationReport, ProbabilityMeasurement, ReliabilityBin, Temperature
from gauntlet.report.statistics import Bools
from gauntlet.runtime.classifier import Classifier


def temperature_of(model: Classifier, evalset: EvalSet) -> Temperature:
    """Return the manifest's temperature; if an imported model has none, fit it on the held-out images of the set."""
    if is_settled(model.manifest):
        return Temperature(value=model.manifest.temperature, source="manifest")
    found = fitted_temperature(model.predict, evalset)
    if found is None:
        return Temperature(value=model.manifest.temperature, source="none fitted")
    return Temperature(value=found, source="held-out images")


def judged(manifest: ClassifierManifest, evalset: EvalSet, n: int) -> Bools:
    """Return which of the first n images count (n,): for an imported model, those that are not held out."""
    judged: Bools = np.ones(len(evalset.labels), dtype=bool)
    if manifest.adoption is not None:
        judged[held_out(evalset)] = False
    return judged[:n]


def measurement(logits: Tensor, judged: Bools, temperature: Temperature) -> ProbabilityMeasurement:
    """Return the probability of the predicted class for logits (n, K), on the images that count (n,)."""
    known = logits.isfinite().all(dim=1)
    top = calibration.top_probabilities(torch.where(known[:, None], logits, 0.0).numpy(), temperature.value)
    pairs = zip(top.tolist(), (known.numpy() & judged).tolist(), strict=True)
    return ProbabilityMeasurement(
        temperature=temperature, confidences=[float(f"{value:.7g}") if counts else None for value, counts in pairs]
    )


def calibration_report(measured: ProbabilityMeasurement | None, correct: Bools) -> CalibrationReport | None:
    """Return the calibration, from the measurement and which of the report's images (n,) are classified correctly.

    None without a measurement. Runs no network.
    """
    if measured is None:
        return None
    known = np.array([value is not None for value in measured.confidences], dtype=bool)
    confidence = np.array([value for value in measured.confidences if value is not None], dtype=np.float64)
    right = correct[known]
    if not len(confidence):
        return CalibrationReport(temperature=measured.temperature, n=0, error=None, bins=[])
    found, edges = calibration.in_bins(confidence, right), np.linspace(0, 1, calibration.BINS + 1)
    place = calibration.bin_of(confidence)
    bins = [
        ReliabilityBin(
            low=round(float(edges[index]), 6),
            high=round(float(edges[index + 1]), 6),
            confidence=float(found.confidence[index]),
            right=statistics.rate(right, among=place == index),
        )
        for index in np.flatnonzero(found.count)
    ]
    return CalibrationReport(temperature=measured.temperature, n=len(confidence), error=found.error, bins=bins)
