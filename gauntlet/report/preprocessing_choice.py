"""The preprocessing that labelled images choose for somebody's model, where its owner declared none.

Every usual preprocessing that agrees with what was declared is tried on a few images, and those that are not clearly
worse than the best on more. The best is taken where it is right clearly more often than the guess, and than the answer
that most images have: a model that calls everything by one name is right on images of one class.
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
    """The file as it was adopted, or adopted ``again`` with the preprocessing that the images choose.

    Args:
        adopted: with guesses for what was not declared.
        declared: what its owner says.
        images: of the model's input shape, labelled as it numbers its classes.
        again: adopts the same file with other settings.
    """
    manifest = adopted.manifest
    channels, adoption = manifest.input_shape[0], manifest.adoption
    assert adoption is not None
    guess = adoption.scale, adoption.offset, adoption.bgr
    known = usual_preprocessing.undeclared(declared, channels).items()
    usual = {name: one for name, one in known if (*one.affine(channels), one.bgr) != guess}
    if not usual:  # all was declared
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
    """The choices that the owner left to the images."""
    if declared.pixel_range is None:
        yield "pixel_range"
    if declared.channels is None and channels == 3:
        yield "channels"
    if declared.mean is None and declared.std is None:
        yield "normalisation"


def _with(adopted: Adopted, trial: PreprocessingTrial, choices: dict[str, Choice]) -> Adopted:
    adoption = adopted.manifest.adoption
    assert adoption is not None
    told = adoption.model_copy(update={"trial": trial, "choices": adoption.choices | choices})
    return Adopted(adopted.graph, adopted.manifest.model_copy(update={"adoption": told}))


def _spread(images: EvalSet, most: int) -> tuple[Tensor, Tensor]:
    """At most so many images (n, C, H, W) and labels (n,), spread over all: they may be sorted by class."""
    count = len(images.labels)
    rows: NDArray[np.int64] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
    return torch.from_numpy(images.images[rows].astype(np.float32) / np.float32(255)), torch.from_numpy(
        images.labels[rows]
    )


def tried(
    predict: Callable[[Tensor], Tensor], adoption: Adoption, usual: dict[str, Usual], x: Tensor, y: Tensor
) -> PreprocessingTrial:
    """What the images x (n, C, H, W) with labels y (n,) say of a model that was adopted with guesses."""
    own = right(predict, x, y)
    few = slice(None, None, max(1, len(y) // SCREENED))
    found = {name: right(predict, before(adoption, one, x[few]), y[few]) for name, one in usual.items()}
    leading = max(found.values(), key=_count)
    kept = [name for name, one in found.items() if not clearly_more(leading, one)]
    found |= {name: right(predict, before(adoption, usual[name], x), y) for name in kept}
    best = max(kept, key=lambda name: _count(found[name]))
    constant = y == y.mode().values
    taken = clearly_more(found[best], own) and clearly_more(found[best], constant)
    order = sorted(found, key=lambda name: _count(found[name]) / len(found[name]), reverse=True)
    order.sort(key=lambda name: name != best)
    return PreprocessingTrial(
        taken=best if taken else None,
        guess=(_count(own), len(own)),
        right={name: (_count(found[name]), len(found[name])) for name in order},
    )


def _count(right: Tensor) -> int:
    return int(right.sum())
