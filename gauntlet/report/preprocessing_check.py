"""Would the model be right far more often if its pixels were prepared in another usual way?

A file does not say which pixels it expects: a network trained on normalised images, opened without normalisation, is
served, attacked and reported on all the same. Labelled images tell. Each usual preprocessing is composed in front of
the served model as an affine map of the pixels, so that the network behind it gets what it would have got.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.artifacts.manifest import Adoption
from gauntlet.checks.white_box import beats
from gauntlet.errors import ModelFailed
from gauntlet.report.schema import CheckRecord
from gauntlet.runtime.classifier import Classifier

IMAGES = 200  # the first ones, at most
CLEARLY = 0.05  # of the images: so many more must be right, beside what chance explains

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Preprocessing:
    """(pixel - mean) / std of pixels in [0, 1], per channel or the same for all; in BGR order if ``reversed``."""

    mean: Numbers
    std: Numbers
    reversed: bool = False

    def feed(self, x: Tensor) -> Tensor:
        """Images (n, C, H, W) in [0, 1] as a network wants them that was trained with this."""
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
        return ((x.flip(1) if self.reversed else x) - mean) / std


BYTE = 1 / 255
IMAGENET = (0.485, 0.456, 0.406)
USUAL: Mapping[str, Preprocessing] = {
    "pixels in 0..1": Preprocessing((0.0,), (1.0,)),
    "pixels in -1..1": Preprocessing((0.5,), (0.5,)),
    "pixels in 0..255": Preprocessing((0.0,), (BYTE,)),
    "black and white exchanged": Preprocessing((1.0,), (-1.0,)),
    "mean and std of MNIST (0.1307, 0.3081)": Preprocessing((0.1307,), (0.3081,)),
    "mean and std of Fashion-MNIST (0.2860, 0.3530)": Preprocessing((0.2860,), (0.3530,)),
    "mean and std of CIFAR-10 (0.4914, 0.4822, 0.4465; 0.2470, 0.2435, 0.2616)": Preprocessing(
        (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    ),
    "mean and std of ImageNet (0.485, 0.456, 0.406; 0.229, 0.224, 0.225)": Preprocessing(
        IMAGENET, (0.229, 0.224, 0.225)
    ),
    "pixels in 0..255 less ImageNet's mean": Preprocessing(IMAGENET, (BYTE,)),
}


def candidates(channels: int) -> dict[str, Preprocessing]:
    """By name, what images of so many channels are usually prepared with; colours in both orders."""
    fitting = {name: usual for name, usual in USUAL.items() if len(usual.mean) in (1, channels)}
    if channels != 3:
        return fitting
    turned = {f"{name}, BGR": Preprocessing(usual.mean[::-1], usual.std[::-1], True) for name, usual in fitting.items()}
    return fitting | turned


def check(model: Classifier, x: Tensor, y: Tensor) -> Iterator[CheckRecord]:
    """Of somebody's own model, on the first labelled images (n, C, H, W); no check of a model made here."""
    adoption = model.manifest.adoption
    if adoption is None or adoption.scale is None or adoption.offset is None:
        return
    x, y = x[:IMAGES], y[:IMAGES]
    own = _right(model, x, y)
    right = {name: _right(model, _before(adoption, usual.feed(x)), y) for name, usual in candidates(x.shape[1]).items()}
    name, best = max(right.items(), key=lambda pair: int(pair[1].sum()))
    better = beats(best, own)[0] and int(best.sum() - own.sum()) > CLEARLY * len(y)
    yield CheckRecord(
        name="the pixels are those that the model expects",
        passed=not better,
        measured=f"{int(own.sum())} of {len(y)} images are classified correctly as the model was opened, "
        f"{int(best.sum())} with {name}",
        meaning=f"The model is right far more often with {name}: it was opened for other pixels than it was trained "
        "on, and no figure here is of the model that its owner knows.",
        advice="Open the file again with that `pixel_range`, `mean` and `std`; put another order of colours, or "
        "black for white, into the file, before its first layer.",
    )


def _before(adoption: Adoption, wanted: Tensor) -> Tensor:
    """The pixels (n, C, H, W) that the served model turns into what its network is to get."""
    scale, offset = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (adoption.scale, adoption.offset))
    pixels = (wanted - offset) / scale
    return pixels.flip(1) if adoption.bgr else pixels


def _right(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """(n,) bool. None, where the model cannot answer such pixels."""
    try:
        logits = model.predict(x.float())
    except ModelFailed:
        return torch.zeros_like(y, dtype=torch.bool)
    return (logits.argmax(dim=1) == y) & logits.isfinite().all(dim=1)
