"""Fit the temperature of an imported classifier, whose validation images are unknown, on part of an evaluation set.

These images must be left out when the classifier's probabilities are evaluated on that set. They are drawn at random,
with a fixed seed so that every process draws the same: a set may be sorted by class, or its classes may alternate.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet import per_sample_random_numpy
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import Choice, ClassifierManifest
from gauntlet.evaluation.calibration import fit_temperature

MOST, FEWEST = 500, 50  # number of images on which a temperature is fitted
PART = 64  # images that are in memory as float32 at once
CHOICE = "temperature"  # key in the manifest's ``adoption.choices``

Predict = Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] to logits (B, K)


def held_out(evalset: EvalSet) -> NDArray[np.int64]:
    """Return the sorted indices of the images for fitting a temperature: at most half of a set, none of a small one."""
    available = len(evalset.labels)
    count = min(MOST, available // 2)
    drawn = np.argsort(per_sample_random_numpy.uniform(0, available, 0, 1)[:, 0], kind="stable")
    return np.sort(drawn[:count]) if count >= FEWEST else drawn[:0]


def fitted_temperature(predict: Predict, evalset: EvalSet) -> float | None:
    """Fit a temperature on the held-out images of a set with the classifier's classes; None if they are too few."""
    rows = held_out(evalset)
    if not len(rows):
        return None
    parts = np.split(rows, range(PART, len(rows), PART))
    images = (torch.from_numpy(evalset.images[part].astype(np.float32) / np.float32(255)) for part in parts)
    logits = np.concatenate([predict(x).numpy() for x in images])
    answered = np.isfinite(logits).all(axis=1)
    return fit_temperature(logits[answered], evalset.labels[rows][answered]) if answered.sum() >= FEWEST else None


def is_settled(manifest: ClassifierManifest) -> bool:
    """Return whether the temperature is final: set at export, or by ``calibrated``."""
    return manifest.adoption is None or CHOICE in manifest.adoption.choices


def calibrated(manifest: ClassifierManifest, predict: Predict, evalset: EvalSet) -> ClassifierManifest:
    """Return an imported classifier's manifest with a fitted temperature, and the images on which it was fitted.

    If there are too few images, the temperature stays 1 and the manifest records this.
    """
    assert manifest.adoption is not None
    found = fitted_temperature(predict, evalset)
    reason = f"fitted on {len(held_out(evalset))} of {len(evalset.labels)} images of {evalset.name}"
    if found is None:
        found, reason = 1.0, f"not fitted: {evalset.name} has too few images with finite logits"
    choice = Choice(value=f"{found:.4g}", given=False, reason=reason)
    adoption = manifest.adoption.model_copy(update={"choices": manifest.adoption.choices | {CHOICE: choice}})
    return manifest.model_copy(update={"temperature": found, "adoption": adoption})
