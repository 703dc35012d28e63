"""Whether probabilities mean something: the temperature of a report's model, and its calibration error by bins."""

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
    """The manifest's; an adopted model's without one is fitted on the held-out images of the set."""
    if is_settled(model.manifest):
        return Temperature(value=model.manifest.temperature, source="manifest")
    found = fitted_temperature(model.predict, evalset)
    if found is None:
        return Temperature(value=model.manifest.temperature, source="none fitted")
    return Temperature(value=found, source="held-out images")


def judged(manifest: ClassifierManifest, evalset: EvalSet, n: int) -> Bools:
    """Which of the first n images are judged (n,): of an adopted model none of those that are held out."""
    judged: Bools = np.ones(len(evalset.labels), dtype=bool)
    if manifest.adoption is not None:
        judged[held_out(evalset)] = False
    return judged[:n]


def measurement(logits: Tensor, judged: Bools, temperature: Temperature) -> ProbabilityMeasurement:
    """Of logits (n, K), where the image is judged (n,)."""
    known = logits.isfinite().all(dim=1)
    top = calibration.top_probabilities(torch.where(known[:, None], logits, 0.0).numpy(), temperature.value)
    pairs = zip(top.tolist(), (known.numpy() & judged).tolist(), strict=True)
    return ProbabilityMeasurement(
        temperature=temperature, confidences=[float(f"{value:.7g}") if counts else None for value, counts in pairs]
    )


def calibration_report(measured: ProbabilityMeasurement | None, correct: Bools) -> CalibrationReport | None:
    """From what was measured and which of the report's images (n,) the model classifies correctly. Runs no network."""
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
