"""``peer.py NETWORKS.npz BOUNDS.npz``: compute bounds with bound-propagation, in the environment that has it."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from bound_propagation import BoundModelFactory, HyperRectangle  # type: ignore[import-not-found]
from numpy.typing import NDArray
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def network(given: Mapping[str, NDArray[Any]], number: int) -> nn.Sequential:
    """Build the dense layers, with the activation between them, in float64."""
    layers: list[nn.Module] = []
    for place in range(sum(name.startswith(f"{number}.w") for name in given)):
        weight, bias = (torch.from_numpy(given[f"{number}.{part}{place}"]).double() for part in "wb")
        layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
        layer.weight.data, layer.bias.data = weight, bias
        layers += [layer, ACTIVATIONS[str(given[f"{number}.activation"])]()]
    return nn.Sequential(*layers[:-1])


def main() -> None:
    """Read the networks, compute the bounds, write them."""
    given, found = dict(np.load(sys.argv[1])), {}
    factory = BoundModelFactory(adaptive_relu=True)
    for number in range(sum(name.endswith(".x") for name in given)):
        bounded = factory.build(network(given, number))
        box = HyperRectangle.from_eps(torch.from_numpy(given[f"{number}.x"]).double(), float(given[f"{number}.eps"]))
        for method, bounds in (("intervals", bounded.ibp(box)), ("CROWN", bounded.crown(box).concretize())):
            found[f"{number}.{method}"] = torch.cat([bounds.lower, bounds.upper]).detach().numpy()
    np.savez(sys.argv[2], **found)  # type: ignore[arg-type]  # none of these is one of savez's other parameters


if __name__ == "__main__":
    main()
