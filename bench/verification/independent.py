"""``python -m bench.verification.independent``: compare our bounds with those of the package bound-propagation.

It is GPL-3.0, so it is installed in an environment of its own (by ``make bench-bounds``), and never imported here:
networks and boxes go to ``peer.py`` in a file, and its bounds come back in one. Ours may be tighter, because they are
intersected with interval bounds at every layer, and must never be looser by more than rounding. Prints Markdown.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.verification.networks import save
from gauntlet.bounds import onnx_reader
from gauntlet.bounds.crown import linearise
from gauntlet.bounds.interval import interval_excess
from gauntlet.bounds.network import Network
from gauntlet.bounds.region import Region

PEER = Path(__file__).with_name("peer.py")
ROUNDING = 1e-6  # relative to the mean width: rounding of float64, and the allowance of our bounds for it
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
SIZES = (24, 40, 30, 20, 10)  # of the layers, the input's first; shorter networks leave some out
EPS = (0.003, 0.01, 0.03, 0.1, 0.3)


class Case(NamedTuple):
    """A network, and a box around a point (1, n) of its inputs."""

    activation: str
    network: nn.Sequential
    x: Tensor
    eps: float


def cases(count: int, seed: int) -> list[Case]:
    """Random networks of two to four layers, boxes from narrow to wide."""
    torch.manual_seed(seed)
    made = []
    for number in range(count):
        activation, depth = list(ACTIVATIONS)[number % len(ACTIVATIONS)], 2 + number % 4
        sizes = (*SIZES[:depth], SIZES[-1])
        layers: list[nn.Module] = [nn.Flatten()]
        for inside, out in itertools.pairwise(sizes):
            layers += [nn.Linear(inside, out), ACTIVATIONS[activation]()]
        made.append(Case(activation, nn.Sequential(*layers[:-1]), torch.rand(1, SIZES[0]), EPS[number % len(EPS)]))
    return made


def ours(network: Network, x: Tensor, eps: float) -> dict[str, Tensor]:
    """Compute our bounds (2, K) of the outputs, lower then upper, by method."""
    centre = x.double().view(1, *network.input_shape)
    region = Region.box(centre - eps, centre + eps)
    size = torch.Size(network.output_shape).numel()
    rows = torch.eye(size, dtype=torch.float64).view(size, *network.output_shape)
    state = linearise(network, region)
    low, high = interval_excess(network, region, rows[None])[0], -interval_excess(network, region, -rows[None])[0]
    return {"intervals": torch.stack([low, high]), "CROWN": torch.stack([state.lower(rows), -state.lower(-rows)])}


def ask_peer(python: str, made: list[Case]) -> dict[str, NDArray[Any]]:
    """Return the peer's bounds (2, K), with keys ``<network's number>.<method>``."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, case in enumerate(made):
        arrays |= {
            f"{number}.activation": np.array(case.activation),
            f"{number}.x": case.x.numpy(),
            f"{number}.eps": np.array(case.eps),
        }
        for place, layer in enumerate(part for part in case.network if isinstance(part, nn.Linear)):
            arrays[f"{number}.w{place}"] = layer.weight.detach().numpy()
            arrays[f"{number}.b{place}"] = layer.bias.detach().numpy()
    with tempfile.TemporaryDirectory() as root:
        networks, bounds = Path(root) / "networks.npz", Path(root) / "bounds.npz"
        np.savez(networks, **arrays)  # type: ignore[arg-type]  # none of these is one of savez's other parameters
        subprocess.run([python, PEER, networks, bounds], check=True)  # noqa: S603  the environment of the caller
        return dict(np.load(bounds))


def compare(case: Case, theirs: Mapping[str, NDArray[Any]], number: int) -> dict[str, tuple[float, float]]:
    """Return by method the most that ours are looser, and the mean by which they are tighter, over the mean width."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "network.onnx"
        save(case.network, (1, SIZES[0]), path)
        found = ours(onnx_reader.read(path), case.x, case.eps)
    gaps = {}
    for method, own in found.items():
        other = torch.from_numpy(theirs[f"{number}.{method}"])
        looser = torch.stack([other[0] - own[0], own[1] - other[1]]) / (other[1] - other[0]).mean()
        gaps[method] = float(looser.max()), -float(looser.mean())
    return gaps


def main() -> None:
    """Print the comparison; exit status 1 if ours are looser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=".venv-bounds/bin/python", help="of the environment with bound-propagation")
    parser.add_argument("--count", type=int, default=60, help="networks (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made = cases(options.count, options.seed)
    theirs = ask_peer(options.python, made)
    gaps: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, case in enumerate(made):
        for method, pair in compare(case, theirs, number).items():
            gaps.setdefault((case.activation, method), []).append(pair)
    print("| activation | method | networks | ours looser, at most | ours tighter, in the mean |")
    print("| --- | --- | --- | --- | --- |")
    for (activation, method), pairs in sorted(gaps.items()):
        looser, tighter = max(pair[0] for pair in pairs), statistics.fmean(pair[1] for pair in pairs)
        print(f"| {activation} | {method} | {len(pairs)} | {looser:.1e} | {tighter:.1e} |")
    sys.exit(1 if max(pair[0] for pairs in gaps.values() for pair in pairs) > ROUNDING else 0)


if __name__ == "__main__":
    main()
