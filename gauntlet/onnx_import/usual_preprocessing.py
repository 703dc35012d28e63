"""The list of usual preprocessings, shared by the guess, the choice by labelled images, and the check of a report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gauntlet.onnx_import.preprocessing import affine
from gauntlet.onnx_import.settings import ModelSettings, Range

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Usual:
    """A preprocessing: (value - mean) / std of pixels in ``pixel_range``; mean and std per channel, or one for all.

    ``bgr``: blue first; mean and std are in that order.
    """

    pixel_range: Range = "0..1"
    mean: Numbers | None = None
    std: Numbers | None = None
    bgr: bool = False

    @property
    def declarable(self) -> bool:
        """Whether it can be declared with ModelSettings, which require a positive std."""
        return all(value > 0 for value in self.std or ())

    def affine(self, channels: int) -> tuple[Numbers, Numbers]:
        """Return scale and offset per channel: the network gets pixel * scale + offset, for pixels in [0, 1]."""
        return affine(self.pixel_range, self.mean, self.std, channels)

    def settings(self, channels: int) -> dict[str, Any]:
        """Return the fields of ModelSettings that declare it."""
        colours = {"channels": "bgr" if self.bgr else "rgb"} if channels == 3 else {}
        return {"pixel_range": self.pixel_range, "mean": self.mean, "std": self.std, **colours}


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (123.68, 116.779, 103.939)  # of red, green, blue

USUAL: Mapping[str, Usual] = {
    "pixels in 0..1": Usual(),
    "pixels in -1..1": Usual("-1..1"),
    "pixels in 0..255": Usual("0..255"),
    "black and white exchanged": Usual(mean=(1.0,), std=(-1.0,)),
    "mean and std of MNIST (0.1307, 0.3081)": Usual(mean=(0.1307,), std=(0.3081,)),
    "mean and std of Fashion-MNIST (0.2860, 0.3530)": Usual(mean=(0.2860,), std=(0.3530,)),
    "mean and std of CIFAR-10 (0.4914, 0.4822, 0.4465; 0.2470, 0.2435, 0.2616)": Usual(
        mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
    ),
    "mean and std of ImageNet (0.485, 0.456, 0.406; 0.229, 0.224, 0.225)": Usual(mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "pixels in 0..255 less Caffe's means (123.68, 116.779, 103.939)": Usual("0..255", mean=CAFFE_MEAN),
}


def candidates(channels: int) -> dict[str, Usual]:
    """Return the usual preprocessings, by name, for images of this many channels; colours in both orders."""
    fitting = {name: usual for name, usual in USUAL.items() if len(usual.mean or (0.0,)) in (1, channels)}
    if channels != 3:
        return fitting
    return fitting | {f"{name}, BGR": _reversed(usual) for name, usual in fitting.items()}


def _reversed(usual: Usual) -> Usual:
    mean, std = (values and values[::-1] for values in (usual.mean, usual.std))
    return replace(usual, mean=mean, std=std, bgr=True)


def undeclared(declared: ModelSettings, channels: int) -> dict[str, Usual]:
    """Return the candidates, by name, that agree with the declared settings; a declared mean or std replaces theirs."""
    given = declared.mean is not None or declared.std is not None
    found = {}
    for name, usual in candidates(channels).items():
        order = "bgr" if usual.bgr else "rgb"
        agrees = declared.pixel_range in (None, usual.pixel_range) and declared.channels in (None, order)
        if agrees and usual.declarable and not given:
            found[name] = usual
        elif agrees and usual.mean is None and usual.std is None:
            found[f"{name}, the declared mean and std"] = replace(usual, mean=declared.mean, std=declared.std)
    return found
