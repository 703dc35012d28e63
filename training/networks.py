"""The networks of the classifiers. All take pixels in [0, 1]; normalisation, if any, is their first layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.interval import initialise
from training.lipschitz import AolConv2d, AolLinear, MaxMin, OrthogonalConv2d, OrthogonalLinear, UnitRowLinear

Shape = tuple[int, int, int]


class Normalise(nn.Module):
    """Subtract each channel's mean from the pixels and divide them by its standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Centre(nn.Module):
    """Subtract each channel's mean from the pixels; distances stay in pixel units."""

    mean: Tensor

    def __init__(self, mean: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def paper_cnn(
    shape: Shape,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    filters: Sequence[int],
    dropout: float = 0.0,
) -> nn.Sequential:
    """Return the student paper's network: convolutions with 2x2 kernels, a dense layer of 256, dropout.

    The paper has filters (64, 128) for Fashion-MNIST and (32, 64, 128) for CIFAR-10, and does not specify padding,
    pooling and activation. Our choice: padding 1 on each side, 2x2 max-pooling and ReLU after each convolution
    (28 -> 29 -> 14 -> 15 -> 7; pooling before ReLU gives the same result and costs less); dropout before and after the
    dense layer.

    Returns:
        Images (B, *shape) to logits (B, classes).
    """
    channels, side, _ = shape
    layers: list[nn.Module] = [Normalise(mean, std)]
    for out in filters:
        layers += [nn.Conv2d(channels, out, 2, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        channels, side = out, (side + 1) // 2
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels * side * side, 256),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(256, classes),
    )


def constrained_paper_cnn(
    shape: Shape,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],  # noqa: ARG001  dividing by it would change distances
    *,
    filters: Sequence[int],
) -> nn.Sequential:
    """Return the paper's network with the norm of every layer, the last one included, at most 1; no dropout.

    Max-pooling over windows that do not overlap and ReLU are 1-Lipschitz, so the whole network is.

    Returns:
        Images (B, *shape) to logits (B, classes).
    """
    channels, side, _ = shape
    layers: list[nn.Module] = [Centre(mean)]
    for out in filters:
        layers += [AolConv2d(channels, out, 2, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        channels, side = out, (side + 1) // 2
    return nn.Sequential(
        *layers, nn.Flatten(), AolLinear(channels * side * side, 256), nn.ReLU(), AolLinear(256, classes)
    )


def lipschitz_cnn(
    shape: Shape,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],  # noqa: ARG001  dividing by it would change distances
    *,
    blocks: Sequence[int],
    width: int,
    features: int,
    constrained: bool = True,
) -> nn.Sequential:
    """Return a chain of 1-Lipschitz layers: blocks of convolutions, two dense layers of ``features``, a unit-row head.

    Block i has ``blocks[i]`` convolutions, of which the first halves the image, and twice the channels of the block
    before; the first block has ``width``. If not ``constrained``, the same architecture is made of ordinary layers.

    Returns:
        Images (B, *shape) to logits (B, classes). Two logits differ by at most the distance of the inputs times
        the distance of their rows in the head.
    """

    def conv(into: int, out: int, stride: int) -> nn.Module:
        if constrained:
            return OrthogonalConv2d(into, out, stride)
        return nn.Conv2d(into, out, 3 * stride, stride, padding=stride)

    dense = OrthogonalLinear if constrained else nn.Linear
    head = UnitRowLinear if constrained else nn.Linear
    channels, side, _ = shape
    layers: list[nn.Module] = [Centre(mean)]
    for number, convolutions in enumerate(blocks):
        out = width * 2**number
        for index in range(convolutions):
            layers += [conv(channels, out, 1 if index else 2), MaxMin()]
            channels = out
        side //= 2
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        dense(channels * side * side, features),
        MaxMin(),
        dense(features, features),
        MaxMin(),
        head(features, classes),
    )


def interval_cnn(
    shape: Shape,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    filters: Sequence[int],
    features: int,
) -> nn.Sequential:
    """Return 4x4 convolutions that halve the image, a dense layer of ``features``, ReLU: few layers, narrow intervals.

    Returns:
        Images (B, *shape) to logits (B, classes).
    """
    channels, side, _ = shape
    layers: list[nn.Module] = [Normalise(mean, std)]
    for out in filters:
        layers += [nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.ReLU()]
        channels, side = out, side // 2
    flat = channels * side * side
    dense = [nn.Flatten(), nn.Linear(flat, features), nn.ReLU(), nn.Linear(features, classes)]
    return initialise(nn.Sequential(*layers, *dense))
