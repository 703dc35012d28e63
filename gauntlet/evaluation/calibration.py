"""Calibration of a classifier's probabilities: temperature scaling, and the expected calibration error.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", arXiv 1706.04599. A temperature changes
only the probabilities: the label, the logits, the margin and every certificate stay the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # number of bins, of equal width over [0, 1], as in the paper
LOWEST, HIGHEST = 1e-3, 1e3  # range of temperatures
AROUND = np.geomspace(0.7, 1 / 0.7, 41)  # candidates, as multiples of the temperature of largest likelihood


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of n predictions, in bins by the probability of the predicted class; empty bins are NaN.

    Attributes:
        confidence: mean probability of the predicted class in each bin (BINS,).
        accuracy: share of correct predictions in each bin (BINS,).
        count: predictions in each bin (BINS,).
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, weighted by count."""
        full = self.count > 0
        gaps = np.abs(self.confidence - self.accuracy)[full]
        return float(gaps @ self.count[full] / self.count.sum())


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature with the least calibration error on held-out logits (N, K) and labels (N,).

    It is searched for around the temperature of largest likelihood (that of the paper). That one alone can leave a
    larger error if the probabilities do not have the shape of a softmax: networks trained with a constraint or
    adversarially.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels)
    rows = np.arange(len(z))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(z / np.exp(log_temperature), axis=1)[rows, y].mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    candidates = float(np.exp(found.x)) * AROUND
    errors = [reliability(z, y, temperature).error for temperature in candidates]
    return float(candidates[int(np.argmin(errors))])


def top_probabilities(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return the probability of the predicted class (N,): the largest of softmax(logits (N, K) / temperature)."""
    return np.exp(log_softmax(np.asarray(logits, np.float64) / temperature, axis=1).max(axis=1))


def reliability(logits: ArrayLike, labels: ArrayLike, temperature: float) -> Reliability:
    """Return confidence and accuracy by bin for logits (N, K) and labels (N,), N >= 1."""
    right = np.asarray(logits).argmax(axis=1) == np.asarray(labels)
    return in_bins(top_probabilities(logits, temperature), right)


def bin_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each probability (N,): 0 to BINS - 1."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def in_bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    """Return the same from the probability of the predicted class (N,) and whether it is correct (N,), N >= 1."""
    bins = bin_of(confidence)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):  # an empty bin has no mean
        return Reliability(
            np.bincount(bins, confidence, minlength=BINS) / count,
            np.bincount(bins, right, minlength=BINS) / count,
            count,
        )
