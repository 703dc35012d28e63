"""Would the model be right far more often if its pixels were prepared in another usual way?

A file does not say which pixels it expects: a network trained on normalised images, opened without normalisation, is
served, attacked and reported on all the same. Labelled images tell. Each usual preprocessing is composed in front of
the served model as an affine map of the pixels, so that the network behind it gets what it would have got.
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

IMAGES = 200  # the first ones, at most
CLEARLY = 0.05  # of the images: so many more must be right, beside what chance explains


def check(model: Classifier, x: Tensor, y: Tensor) -> Iterator[CheckRecord]:
    """Of somebody's own model, on the first labelled images (n, C, H, W); no check of a model made here."""
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
        meaning=f"The model is right far more often with {name}: it was opened for other pixels than it was trained "
        "on, and no figure here is of the model that its owner knows.",
        advice="Open the file again with that `pixel_range`, `mean`, `std` and `channels`, or with labelled images, "
        "which choose among them; put black for white into the file, before its first layer.",
    )


def clearly_more(best: Tensor, other: Tensor) -> bool:
    """Whether so many more images are right (n,) that neither chance nor a detail of the preprocessing explains it."""
    return beats(best, other)[0] and int(best.sum() - other.sum()) > CLEARLY * len(best)


def prepared(usual: Usual, x: Tensor) -> Tensor:
    """Images (n, C, H, W) in [0, 1] as a network wants them that was trained with this."""
    scale, offset = (torch.tensor(numbers).view(-1, 1, 1) for numbers in usual.affine(x.shape[1]))
    return (x.flip(1) if usual.bgr else x) * scale + offset


def before(adoption: Adoption, usual: Usual, x: Tensor) -> Tensor:
    """The pixels (n, C, H, W) that the served model turns into what its network gets with this preprocessing."""
    scale, offset = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (adoption.scale, adoption.offset))
    pixels = (prepared(usual, x) - offset) / scale
    return pixels.flip(1) if adoption.bgr else pixels


def right(predict: Predict, x: Tensor, y: Tensor) -> Tensor:
    """(n,) bool: classified correctly. None, where the model cannot answer such pixels."""
    try:
        logits = predict(x.float())
    except ModelFailed:
        return torch.zeros_like(y, dtype=torch.bool)
    return (logits.argmax(dim=1) == y) & logits.isfinite().all(dim=1)
