"""``python -m bench.training``: training time until ``fashion-mnist-standard`` has a validation accuracy of 92.4 %.

Ours is the recipe's loop with few epochs, in bfloat16 (which is faster if the processor has instructions for it),
including its evaluation. The plain loop is that of a tutorial: torchvision's transforms in a DataLoader with workers,
Adam at a constant learning rate, float32, the same network, batch size and split; its evaluation is not counted.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.attacks.records import table
from training import classifier
from training.classifier_config import ClassifierConfig
from training.data import SOURCES, Examples, TrainingData, data_root, load_training, to_pixels
from training.provenance import hardware
from training.recipes import RECIPES
from training.run import Run

GOAL = 0.924
MOST_EPOCHS = 30


class Pictures(Dataset[tuple[Tensor, int]]):
    """A data set that returns one transformed image at a time, like torchvision's."""

    def __init__(self, examples: Examples) -> None:
        self.images, self.labels = examples.images.squeeze(1).numpy(), examples.labels.tolist()
        self.transform: Any = transforms.Compose(
            [transforms.ToPILImage(), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def plain(config: ClassifierConfig, data: TrainingData) -> tuple[float, float]:
    """Train until the goal or MOST_EPOCHS; return the seconds and the accuracy."""
    torch.manual_seed(config.seed)
    network = config.build(data)
    optimizer = torch.optim.Adam(network.parameters())
    loader = DataLoader(Pictures(data.train), config.batch_size, shuffle=True, num_workers=2)
    seconds, accuracy = 0.0, 0.0
    for epoch in range(1, MOST_EPOCHS + 1):
        start = time.perf_counter()
        network.train()
        for x, y in loader:
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(x), y))
            optimizer.step()
        seconds += time.perf_counter() - start
        accuracy = measured(network, data.validation)
        print(f"plain, epoch {epoch}: {seconds:.0f} s, {100 * accuracy:.2f} %", file=sys.stderr)
        if accuracy >= GOAL:
            break
    return seconds, accuracy


def ours(config: ClassifierConfig, data: TrainingData) -> tuple[float, float]:
    """Train with the recipe's loop; return the seconds and the accuracy at its end."""
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), config, device=torch.device("cpu"), artifacts=Path(folder))
        network = classifier.train(config, data, run)
        return run.seconds, measured(network, data.validation)


@torch.no_grad()
def measured(network: nn.Module, examples: Examples) -> float:
    """Compute the accuracy."""
    network.eval()
    hits = [
        network(to_pixels(images)).argmax(1) == labels
        for images, labels in zip(torch.split(examples.images, 500), torch.split(examples.labels, 500), strict=True)
    ]
    return float(torch.cat(hits).double().mean())


def main() -> None:
    """Print a section for ``python -m bench.page training``; progress goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="of the recipe's schedule (%(default)s)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16", help="(%(default)s)")
    config = RECIPES["fashion-mnist-standard"].config.model_copy(update=vars(parser.parse_args()))
    assert isinstance(config, ClassifierConfig)
    data = load_training(SOURCES[config.dataset], data_root())
    sys.stdout.write(section(config, ours(config, data), plain(config, data)))


def section(config: ClassifierConfig, mine: tuple[float, float], other: tuple[float, float]) -> str:
    """Return the Markdown section; ``mine`` and ``other`` are (seconds, accuracy)."""
    names = f"the recipe's loop, {config.epochs} epochs, {config.precision}", "the plain loop, float32"
    rows = [
        [name, f"{seconds:.0f}", f"{100 * accuracy:.2f} %", "yes" if accuracy >= GOAL else "no"]
        for name, (seconds, accuracy) in zip(names, (mine, other), strict=True)
    ]
    return (
        f"## Training\n\n`python -m bench.training`: `{config.name}`, seed {config.seed}, until {100 * GOAL:.1f} % of "
        f"the validation images are right, on {hardware(torch.device('cpu'))}.\n\n"
        f"{table(['loop', 'seconds', 'accuracy', 'reached'], rows)}\n"
        f"Ours takes {mine[0] / other[0]:.2f} of the plain loop's time; at most 0.5 is the goal.\n"
    )


if __name__ == "__main__":
    main()
