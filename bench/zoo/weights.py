"""Random weights with which a network's activations have an ordinary size, like those of a trained network."""

import torch
from torch import Tensor, nn

from gauntlet.onnx_import.usual_preprocessing import IMAGENET_MEAN, IMAGENET_STD

BATCHES, BATCH = 4, 8  # of noise
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def settle(module: nn.Module, side: int, seed: int) -> nn.Module:
    """Fit every BatchNorm to noise, and draw weights for layers initialised to zero; in place, ends in evaluation mode.

    A last layer of zeros, the initialisation of vision transformers, would give every image the same logits.
    """
    draw = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and not part.weight.any():
            part.weight.copy_(torch.randn(part.weight.shape, generator=draw) / part.weight[0].numel() ** 0.5)
        if isinstance(part, NORMS) and part.track_running_stats:
            part.reset_running_stats()
            part.momentum = None  # the average of all batches
    module.eval()
    for part in module.modules():
        if isinstance(part, NORMS):
            part.train()
    for _ in range(BATCHES):
        module(noise(BATCH, side, draw))
    module.eval()
    _centre(module, module(noise(BATCH, side, draw)))
    return module


def _centre(module: nn.Module, logits: Tensor) -> None:
    """Subtract the mean of the logits (B, K) over images from the bias of the last dense layer, if it has one.

    An untrained network gives every image nearly the same logits, which are indistinguishable in eight bits.
    """
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1:]
    if last and "bias" in dict(last[0].named_parameters()) and last[0].out_features == logits.shape[1]:
        last[0].bias.sub_(logits.mean(dim=0))


def noise(count: int, side: int, draw: torch.Generator) -> Tensor:
    """Draw images (count, 3, side, side) of random pixels, normalised as for ImageNet networks."""
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return (torch.rand(count, 3, side, side, generator=draw) - mean) / std
