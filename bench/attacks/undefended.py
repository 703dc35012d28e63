"""Which defaults for our attacks? Untargeted and targeted, on dense and convolutional networks without a defence.

The networks are trained here, in seconds each, on MNIST; the images are held out of training and are no test images, so
that defaults may be chosen by the results.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.attacks.options import Options
from bench.attacks.records import Goal, Reach, table
from bench.attacks.section import Section
from bench.attacks.task import correct
from gauntlet import python_api
from gauntlet.attacks import ATTACKS
from gauntlet.evaluation import referee
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat
from training.data import SOURCES, data_root, load_training, to_pixels

N = 60
IMAGES, EPOCHS, BATCH, RATE = 20_000, 3, 128, 1e-3  # of training
SLACK = 1.01  # factor by which an attack may exceed the smallest distance of all attacks
FIRST = "fmn"
"""The attack that a default report runs in Linf without an eps."""

CONTENDERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    **{f"fmn, {steps} steps": ("fmn", {"steps": steps}) for steps in (20, 40, 60, 100, 200)},
    "cw-linf": ("cw-linf", {}),
    "strongest": ("strongest", {}),
    "pgd": ("pgd", {}),
    "apgd": ("apgd", {}),
    "apgd, dlr": ("apgd", {"objective": "dlr"}),
    "apgd, 3 restarts of 300 steps": ("apgd", {"steps": 300, "restarts": 3}),
}
"""Attacks without an eps first: their median smallest distance (times SLACK) is the eps of the others."""


def dense(depth: int, width: int = 256) -> nn.Module:
    """Return a fully connected network with ``depth`` hidden layers."""
    sizes = [784, *[width] * depth]
    hidden = [part for pair in itertools.pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))


def convolutional() -> nn.Module:
    """Return a network of two convolutions and two dense layers."""
    body = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(32 * 49, 100), nn.ReLU(), nn.Linear(100, 10))


NETWORKS = {"dense-2": lambda: dense(2), "dense-6": lambda: dense(6), "convolutional": convolutional}


def run(options: Options) -> Section:
    """Run every contender on every network, untargeted and targeted."""
    data = load_training(SOURCES["mnist"], data_root())
    n, results = options.n or N, list[Reach]()
    for name, make in NETWORKS.items():
        model = trained(name, make, to_pixels(data.train.images[:IMAGES]), data.train.labels[:IMAGES], options.seed)
        x, y = correct(model, to_pixels(data.validation.images[: 2 * n]), data.validation.labels[: 2 * n])
        for targeted in (False, True):
            results += measure(model, x[:n], y[:n], targeted, options.seed)
    return Section(
        name="undefended",
        title=f"Linf on networks without a defence, {n} held-out images of MNIST, seed {options.seed}",
        text=_table(results),
        results={"all": results},
        goals=[
            Goal(
                text=f"{row.model}, {row.task}: share of the images on which the default {FIRST} needs over 1 % more "
                "than the best",
                value=(row.far or 0) / row.n,
                limit=0.05,
            )
            for row in results
            if row.name == f"{FIRST}, {ATTACKS[FIRST].settings['steps']} steps"
        ],
    )


def trained(name: str, make: Any, x: Tensor, y: Tensor, seed: int) -> Classifier:
    """Train a network for a few epochs with Adam, export it and open it."""
    torch.manual_seed(seed)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(x[rows]), y[rows]))
            optimizer.step()
    return python_api.open_classifier(network, name=name, example=x[:2], device="cpu")


def measure(model: Classifier, x: Tensor, y: Tensor, targeted: bool, seed: int) -> Iterator[Reach]:
    """Yield one row per contender. If ``targeted``, image i aims at the other class number i modulo 9."""
    target = (y + 1 + torch.arange(len(y)) % 9) % 10 if targeted else None
    results: dict[str, tuple[Tensor, float]] = {}
    minimum_norm = [name for name, (attack, _) in CONTENDERS.items() if ATTACKS[attack].minimum_norm]
    for name in minimum_norm:
        results[name] = _distances(model, name, x, y, None, target, seed)
    best = torch.stack([distances for distances, _ in results.values()]).amin(dim=0)
    eps = SLACK * float(best.median())
    for name in CONTENDERS.keys() - minimum_norm:
        results[name] = _distances(model, name, x, y, eps, target, seed)
    for name in CONTENDERS:
        distances, seconds = results[name]
        yield Reach(
            model=model.name,
            task="to another class" if targeted else "away from the class",
            name=name,
            n=len(x),
            ratio=float((distances / best).median()) if name in minimum_norm else None,
            far=int((distances > SLACK * best).sum()) if name in minimum_norm else None,
            missed=int(((best <= eps) & (distances > eps)).sum()),
            within=int((best <= eps).sum()),
            seconds=seconds,
        )


def _distances(
    model: Classifier, name: str, x: Tensor, y: Tensor, eps: float | None, target: Tensor | None, seed: int
) -> tuple[Tensor, float]:
    """Return the distance of each image (n,), infinite where the contender failed, and the seconds."""
    attack, params = CONTENDERS[name]
    start = time.perf_counter()
    outcome = referee.run(model, attack, x, y, Threat("linf", eps), seed=seed, params=params, target=target)
    seconds = time.perf_counter() - start
    if eps is None:
        return outcome.size("linf"), seconds
    return torch.full_like(outcome.l2, eps).where(outcome.success, torch.inf), seconds


def _table(results: list[Reach]) -> str:
    head = [
        "model",
        "task",
        "attack",
        "median of its distance over the best",
        "over 1 % more",
        "missed at eps",
        "seconds",
    ]
    rows = [
        [
            row.model,
            row.task,
            row.name,
            "" if row.ratio is None else f"{row.ratio:.4f}",
            "" if row.far is None else f"{row.far} of {row.n}",
            f"{row.missed} of {row.within}",
            f"{row.seconds:.1f}",
        ]
        for row in results
    ]
    return "eps is 1.01 times the median of the smallest distances.\n\n" + table(head, rows)
