"""Interval bounds of a network for training, and the regularisers that keep them tight while eps rises.

Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", arXiv
1810.12715; initialisation and regularisers of Shi et al., "Fast Certified Robust Training with Short Warmup", arXiv
2103.17268. These bounds are for training only: reported figures are proved from the exported file by
``gauntlet.bounds``.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

TOLERANCE = 0.5  # tau of arXiv 2103.17268


class Box(NamedTuple):
    """Values within ``radius`` >= 0 of ``centre``, both of one shape."""

    centre: Tensor
    radius: Tensor


def initialise(network: nn.Sequential) -> nn.Sequential:
    """Draw weights from N(0, 2 pi / fan-in^2) and set biases to 0, so that interval widths neither grow nor vanish."""
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
            nn.init.zeros_(layer.bias)
    return network


def propagate(network: nn.Sequential, x: Tensor, eps: float) -> tuple[list[Box], Box]:
    """Compute boxes around the network's values over the images of [0, 1] within Linf ``eps`` of x (B, C, H, W).

    The network may have convolutions, dense layers, ReLU, flattening, and layers that scale each channel. Returns the
    input boxes of the first layer with weights and of each ReLU, and the input box of the last layer, the head.
    """
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    box = Box((low + high) / 2, (high - low) / 2)
    inputs: list[Box] = []
    for layer in network[:-1]:
        if isinstance(layer, nn.ReLU) or (not inputs and isinstance(layer, nn.Conv2d | nn.Linear)):
            inputs.append(box)
        box = _through(layer, box)
    return inputs, box


def _through(layer: nn.Module, box: Box) -> Box:
    if isinstance(layer, nn.ReLU):
        low, high = (box.centre - box.radius).relu(), (box.centre + box.radius).relu()
        return Box((low + high) / 2, (high - low) / 2)
    if isinstance(layer, nn.Conv2d):
        assert isinstance(layer.padding, tuple)
        radius = functional.conv2d(box.radius, layer.weight.abs(), None, layer.stride, layer.padding)
        return Box(layer(box.centre), radius)
    if isinstance(layer, nn.Linear):
        return Box(layer(box.centre), functional.linear(box.radius, layer.weight.abs()))
    centre = layer(box.centre)
    return Box(centre, layer(box.centre + box.radius) - centre)  # flattening, or scaling by a positive factor


def worst_logits(head: nn.Linear, box: Box, labels: Tensor) -> Tensor:
    """Compute upper bounds of each logit minus the right class's, (B, K), from the head's input box.

    The bound of the right class is 0. Bounds of the differences are tighter than differences of the logits' bounds.
    """
    weight = head.weight[None] - head.weight[labels][:, None]  # (B, K, features)
    bias = head.bias[None] - head.bias[labels][:, None]
    high: Tensor = torch.einsum("bkf,bf->bk", weight, box.centre) + torch.einsum("bkf,bf->bk", weight.abs(), box.radius)
    return high + bias


def looseness(met: list[Box]) -> Tensor:
    """Compute the regularisers of arXiv 2103.17268, section 4.2, against intervals that widen and unbalanced ReLUs.

    Each ReLU's mean interval may be 1 / TOLERANCE times as wide as the input's, and the contributions of its always
    active and its always inactive units to mean and variance may differ by the same factor; the result is the mean
    over ReLUs of the excess.
    """
    first, *relus = met
    width = first.radius.mean()
    return torch.stack([_excess(width / box.radius.mean().clamp_min(1e-12)) + _imbalance(box) for box in relus]).mean()


def _excess(ratio: Tensor) -> Tensor:
    return (TOLERANCE - ratio).relu() / TOLERANCE


def _imbalance(box: Box) -> Tensor:
    active = (box.centre - box.radius > 0).to(box.centre)
    inactive = (box.centre + box.radius < 0).to(box.centre)
    square = (box.centre - box.centre.mean()).square()
    pairs = (
        ((active * box.centre).sum(), -(inactive * box.centre).sum()),
        ((active * square).sum(), (inactive * square).sum()),
    )
    total = box.centre.new_zeros(())
    for one, other in pairs:
        if float(one.detach()) > 0 and float(other.detach()) > 0:  # units of both kinds exist
            total = total + _excess(torch.minimum(one / other, other / one))
    return total


def certified(network: nn.Sequential, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Whether these bounds, in float32, prove that each image keeps its class y (B,) within Linf ``eps``: (B,)."""
    head = network[-1]
    assert isinstance(head, nn.Linear)
    worst = worst_logits(head, propagate(network, x, eps)[1], y)
    return worst.scatter(1, y[:, None], -torch.inf).amax(1) < 0
