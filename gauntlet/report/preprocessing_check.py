"""A check whether a user's model would be right far more often with another usual preprocessing.

A file does not state which pixels it expects: a network that was trained on normalised images and opened without
normalisation could be served, attacked and reported on all the same. Labelled images reveal the mistake. Each usual
preprocessing is composed in front of the served model as an affine map of the pixels, so that the network inside gets
the input that this preprocessing gives.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gauntlet.artifacts.manifest import Adoption
from gauntlet.checks.white_box import beats
from gauntlet.errors import ModelFailed
from gauntlet.onnx_import.usual_preprocessing import Usual, candidates
from gauntlet.report.schema import CheckRecord
from gauntlet.runtime.classifier import Classifier

Predict = Callable[[Tensor], Tensor]

IMAGES = 200  # used for the check, the first ones, at most
CLEARLY = 0.05  # of the images: so many more must be right, and more than chance explains


def check(model: Classifier, x: Tensor, y: Tensor) -> Iterator[CheckRecord]:
    """Check a user's model on the first labelled images (n, C, H, W); yield no check for a model trained here."""
    adoption = model.manifest.adoption
    if adoption is None or adoption.scale is None or adoption.offset is None:
        return
    x, y = x[:IMAGES], y[:IMAGES]
    own = right(model.predict, x, y)
    tried = {
        name: right(model.predict, before(adoption, usual, x), y) for name, usual in candidates(x.shape[1]).items()
    }
    name, best = max(tried.items(), key=lambda pair: int(pair[1].sum()))
    yield CheckRecord(
        name="the pixels are those that the model expects",
        passed=not clearly_more(best, own),
        measured=f"{int(own.sum())} of {len(y)} images are classified correctly as the model was opened, "
        f"{int(best.sum())} with {name}",
        meaning=f"The model is right far more often with {name}: it was opened with another preprocessing than it was "
        "trained with, so the figures here are not those of the model that its owner uses.",
        advice="Open the file again with that `pixel_range`, `mean`, `std` and `channels`, or with labelled images, "
        "which choose among them; if black and white are exchanged, put that into the file, before its first layer.",
    )


def clearly_more(best: Tensor, other: Tensor) -> bool:
    """Return whether ``best`` (n,) is right more often than ``other`` by more than chance or details would explain."""
    return beats(best, other)[0] and int(best.sum() - other.sum()) > CLEARLY * len(best)


def prepared(usual: Usual, x: Tensor) -> Tensor:
    """Return images (n, C, H, W) in [0, 1] after this preprocessing: the input of a network trained with it."""
    scale, offset = (torch.tensor(numbers).view(-1, 1, 1) for numbers in usual.affine(x.shape[1]))
    return (x.flip(1) if usual.bgr else x) * scale + offset


def before(adoption: Adoption, usual: Usual, x: Tensor) -> Tensor:
    """Return the pixels (n, C, H, W) from which the served model makes the input that ``usual`` would give."""
    scale, offset = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (adoption.scale, adoption.offset))
    pixels = (prepared(usual, x) - offset) / scale
    return pixels.flip(1) if adoption.bgr else pixels


def right(predict: Predict, x: Tensor, y: Tensor) -> Tensor:
    """Return which images are classified correctly (n,); all False if the model fails on such pixels."""
    try:
        logits = predict(x.float())
    except ModelFailed:
        return torch.zeros_like(y, dtype=torch.bool)
    return (logits.argmax(dim=1) == y) & logits.isfinite().all(dim=1)
