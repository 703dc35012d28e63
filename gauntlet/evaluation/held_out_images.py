"""The temperature of a classifier whose validation images are not known: fitted on a part of an evaluation set.

Whoever judges the classifier's probabilities on that set leaves the same images out. They are drawn, the same in each
process: a set may be sorted by class, or its classes may take turns.
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

MOST, FEWEST = 500, 50  # images that a temperature is fitted on
PART = 64  # of them that are held in memory as float32
CHOICE = "temperature"  # of an adoption: how its temperature was fitted

Predict = Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] to logits (B, K)


def held_out(evalset: EvalSet) -> NDArray[np.int64]:
    """Indices, in order, of the images for fitting a temperature: half of a set at most, none of a small one."""
    available = len(evalset.labels)
    count = min(MOST, available // 2)
    drawn = np.argsort(per_sample_random_numpy.uniform(0, available, 0, 1)[:, 0], kind="stable")
    return np.sort(drawn[:count]) if count >= FEWEST else drawn[:0]


def fitted_temperature(predict: Predict, evalset: EvalSet) -> float | None:
    """Fitted on the images that are held out, whose labels are those of the classifier; None: they are too few."""
    rows = held_out(evalset)
    if not len(rows):
        return None
    parts = np.split(rows, range(PART, len(rows), PART))
    images = (torch.from_numpy(evalset.images[part].astype(np.float32) / np.float32(255)) for part in parts)
    logits = np.concatenate([predict(x).numpy() for x in images])
    answered = np.isfinite(logits).all(axis=1)
    return fit_temperature(logits[answered], evalset.labels[rows][answered]) if answered.sum() >= FEWEST else None


def is_settled(manifest: ClassifierManifest) -> bool:
    """Whether the temperature is one that was fitted: at export, or by ``calibrated``."""
    return manifest.adoption is None or CHOICE in manifest.adoption.choices


def calibrated(manifest: ClassifierManifest, predict: Predict, evalset: EvalSet) -> ClassifierManifest:
    """An adopted classifier's manifest with a temperature, and on which images it was fitted.

    Where they are too few, the temperature stays 1 and the manifest says so.
    """
    assert manifest.adoption is not None
    found = fitted_temperature(predict, evalset)
    reason = f"fitted on {len(held_out(evalset))} of {len(evalset.labels)} images of {evalset.name}"
    if found is None:
        found, reason = 1.0, f"not fitted: {evalset.name} has too few images that it answers"
    choice = Choice(value=f"{found:.4g}", given=False, reason=reason)
    adoption = manifest.adoption.model_copy(update={"choices": manifest.adoption.choices | {CHOICE: choice}})
    return manifest.model_copy(update={"temperature": found, "adoption": adoption})
