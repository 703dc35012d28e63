"""``python -m bench.dcgan``: what stabilises the DCGAN on MNIST? One change of ``mnist-dcgan-plain`` at a time.

Every variant is trained like a recipe, and interrupted runs are resumed. Figures are measured on validation images, in
features of ``mnist-standard``: nothing is exported, the test set is not used.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training import gan
from training.data import SOURCES, TrainingData, data_root, load_training
from training.gan import GanConfig
from training.recipes import RECIPES
from training.run import CHECKPOINT_FILE, Run

PLAIN, STEADY = "mnist-dcgan-plain", "mnist-dcgan"
CHANGES: Mapping[str, dict[str, Any]] = {
    "as published": {},
    "spectral instead of batch normalisation": {"stabilised": True},
    "averaged weights": {"average": 0.998},
    "falling learning rates": {"falling": 1.0},
    "two learning rates": {"generator_rate": 4e-3, "discriminator_rate": 8e-4},
    "one discriminator step": {"discriminator_steps": 1},
}
HEADER = ("change", "Frechet distance, best epoch", "last epoch", "rarest class, last epoch")


def main() -> None:
    """Train all variants and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--artifacts", type=Path, default=Path("models/artifacts"), help="where the judge is")
    options = parser.parse_args()
    plain, steady = (RECIPES[name].config for name in (PLAIN, STEADY))
    assert isinstance(plain, GanConfig)
    assert isinstance(steady, GanConfig)
    data = load_training(SOURCES[plain.dataset], data_root())
    variants = {name: plain.model_copy(update=change) for name, change in CHANGES.items()}
    variants[f"all of these but the last, as `{STEADY}`"] = steady.model_copy(update={"epochs": plain.epochs})
    rows = [row(name, config, data, options.runs, options.artifacts) for name, config in variants.items()]
    print(f"{plain.epochs} epochs each, {len(data.validation.labels)} validation images, seed {plain.seed}\n")
    for cells in (HEADER, ("---",) * len(HEADER), *rows):
        print(f"| {' | '.join(cells)} |")


def row(name: str, config: GanConfig, data: TrainingData, runs: Path, artifacts: Path) -> tuple[str, ...]:
    """Train one variant, or resume it, and return its row of the table. Raises RunError if training diverges."""
    folder = runs / f"dcgan-{name.replace('`', '').replace(' ', '-')}"
    resume = (folder / CHECKPOINT_FILE).is_file()
    run = Run(folder, config, device=torch.device("cpu"), artifacts=artifacts, resume=resume)
    gan.train(config, data, run)
    distances = [epoch["frechet_distance"] for epoch in run.history]
    return name, f"{min(distances):.1f}", f"{distances[-1]:.1f}", f"{100 * run.history[-1]['min_class_share']:.1f} %"


if __name__ == "__main__":
    main()
