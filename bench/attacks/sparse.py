"""The fewest pixels (L0): our attacks at the same number of counted passes, on shipped models and an undefended one."""

import statistics
from collections.abc import Iterator

import torch

from bench.attacks import undefended
from bench.attacks.options import Options
from bench.attacks.records import Sparse, table
from bench.attacks.section import Section
from bench.attacks.task import correct, open_classifier
from gauntlet.evaluation import referee
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat
from training.data import SOURCES, data_root, load_training, to_pixels

N = 100
PASSES = (120, 600)
MODELS = (
    "mnist-adversarial",
    "fashion-mnist-standard",
    "fashion-mnist-adversarial",
    "cifar10-standard",
    "cifar10-adversarial",
)
CONTENDERS = (("fmn", 3), ("sigma-zero", None))
"""Attacks, and how many target classes they try: the passes are divided among these."""


def run(options: Options) -> Section:
    """Run both attacks at each number of passes, on n held-out images of each model."""
    n = options.n or N
    mnist = load_training(SOURCES["mnist"], data_root())
    seen = to_pixels(mnist.train.images[: undefended.IMAGES]), mnist.train.labels[: undefended.IMAGES]
    plain = undefended.trained("undefended", undefended.convolutional, *seen, options.seed)
    models: list[tuple[Classifier, str]] = [(plain, "mnist")]
    models += [(model, model.manifest.dataset) for model in map(open_classifier, MODELS)]
    results = [found for model, dataset in models for found in measure(model, dataset, n, options.seed)]
    return Section(
        name="sparse",
        title=f"Fewest pixels, {n} held-out images of each model that it classifies correctly, seed {options.seed}",
        text=_table(results),
        results={"all": results},
        goals=[],
    )


def measure(model: Classifier, dataset: str, n: int, seed: int) -> Iterator[Sparse]:
    """Yield a record for each attack at each number of passes."""
    held_out = load_training(SOURCES[dataset], data_root()).validation
    x, y = correct(model, to_pixels(held_out.images[: 3 * n]), held_out.labels[: 3 * n])
    for passes in PASSES:
        for attack, targets in CONTENDERS:
            params = {"steps": passes} if targets is None else {"steps": passes // targets, "targets": targets}
            outcome = referee.run(model, attack, x[:n], y[:n], Threat("l0"), seed=seed, params=params)
            sizes = outcome.size("l0").where(outcome.success, torch.inf).tolist()
            successes = [size for size in sizes if size < torch.inf]
            yield Sparse(
                model=model.name,
                name=attack,
                n=len(sizes),
                passes=float(outcome.queries.float().mean()),
                found=len(successes),
                median=statistics.median(sizes),
                mean=statistics.mean(successes or [torch.inf]),
            )


def _table(results: list[Sparse]) -> str:
    head = ["model", "attack", "found", "median pixels", "mean, of those found", "passes per image"]
    return table(
        head,
        [
            [row.model, row.name, f"{row.found} of {row.n}", f"{row.median:g}", f"{row.mean:.1f}", f"{row.passes:.0f}"]
            for row in results
        ],
    )
