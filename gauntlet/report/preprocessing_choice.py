"""The choice of a user model's preprocessing by labelled images, if its owner did not declare all of it.

Every usual preprocessing that agrees with the declared settings is tried on a few images, and those that are not
clearly worse than the best on more. The best is taken if it is right clearly more often than both the guess and a
constant answer, the most frequent class: a model that gives every image the same class is right on that class.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import MODEL_FILE, Adoption, Choice, PreprocessingTrial
from gauntlet.onnx_import import usual_preprocessing
from gauntlet.onnx_import.conversion import Adopted
from gauntlet.onnx_import.settings import ModelSettings
from gauntlet.onnx_import.usual_preprocessing import Usual
from gauntlet.report import wording
from gauntlet.report.preprocessing_check import IMAGES, before, clearly_more, right
from gauntlet.runtime.session import Session

SCREENED = 40  # images on which every candidate is tried


def chosen(
    adopted: Adopted, declared: ModelSettings, images: EvalSet, again: Callable[[ModelSettings], Adopted]
) -> Adopted:
    """Return the imported model or, imported ``again``, the same file with the preprocessing that the images choose.

    Args:
        adopted: the model, imported with guesses for what was not declared.
        declared: the settings that its owner declared.
        images: of the model's input shape, labelled as it numbers its classes.
        again: imports the same file with other settings.
    """
    manifest = adopted.manifest
    channels, adoption = manifest.input_shape[0], manifest.adoption
    assert adoption is not None
    guess = adoption.scale, adoption.offset, adoption.bgr
    known = usual_preprocessing.undeclared(declared, channels).items()
    usual = {name: one for name, one in known if (*one.affine(channels), one.bgr) != guess}
    if not usual:  # everything was declared
        return adopted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(adopted.graph)
        session = Session(path, untrusted=True)
        x, y = _spread(images, IMAGES)
        trial = tried(lambda x: torch.from_numpy(session.run(x.numpy())), adoption, usual, x, y)
    if trial.taken is None:
        return _with(adopted, trial, {})
    settings = usual[trial.taken].settings(channels)
    made = again(declared.model_copy(update=settings))
    assert made.manifest.adoption is not None
    reason = f"{wording.CHOSEN}: {trial.taken}"
    choices = {
        name: Choice(value=made.manifest.adoption.choices[name].value, given=False, reason=reason)
        for name in _left_open(declared, channels)
    }
    return _with(made, trial, choices)


def _left_open(declared: ModelSettings, channels: int) -> Iterator[str]:
    """Yield the settings that the owner did not declare and the images choose."""
    if declared.pixel_range is None:
        yield "pixel_range"
    if declared.channels is None and channels == 3:
        yield "channels"
    if declared.mean is None and declared.std is None:
        yield "normalisation"


def _with(adopted: Adopted, trial: PreprocessingTrial, choices: dict[str, Choice]) -> Adopted:
    """Return the model with the trial and these choices added to its manifest."""
    adoption = adopted.manifest.adoption
    assert adoption is not None
    extended = adoption.model_copy(update={"trial": trial, "choices": adoption.choices | choices})
    return Adopted(adopted.graph, adopted.manifest.model_copy(update={"adoption": extended}))


def _spread(images: EvalSet, limit: int) -> tuple[Tensor, Tensor]:
    """Return at most ``limit`` images (n, C, H, W) and labels (n,), evenly spread: the set may be sorted by class."""
    count = len(images.labels)
    rows: NDArray[np.int64] = np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64))
    return torch.from_numpy(images.images[rows].astype(np.float32) / np.float32(255)), torch.from_numpy(
        images.labels[rows]
    )


def tried(
    predict: Callable[[Tensor], Tensor], adoption: Adoption, usual: dict[str, Usual], x: Tensor, y: Tensor
) -> PreprocessingTrial:
    """Count how often a model is right on images x (n, C, H, W) with labels y (n,), as guessed and by preprocessing."""
    own = right(predict, x, y)
    few = slice(None, None, max(1, len(y) // SCREENED))
    hits = {name: right(predict, before(adoption, one, x[few]), y[few]) for name, one in usual.items()}
    leading = max(hits.values(), key=_count)
    finalists = [name for name, one in hits.items() if not clearly_more(leading, one)]
    hits |= {name: right(predict, before(adoption, usual[name], x), y) for name in finalists}
    best = max(finalists, key=lambda name: _count(hits[name]))
    constant = y == y.mode().values
    taken = clearly_more(hits[best], own) and clearly_more(hits[best], constant)
    order = sorted(hits, key=lambda name: _count(hits[name]) / len(hits[name]), reverse=True)
    order.sort(key=lambda name: name != best)
    return PreprocessingTrial(
        taken=best if taken else None,
        guess=(_count(own), len(own)),
        right={name: (_count(hits[name]), len(hits[name])) for name in order},
    )


def _count(right: Tensor) -> int:
    return int(right.sum())
