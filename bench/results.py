"""``python -m bench.results``: print the two tables of docs/results.md, from the manifests of all models.

``--write`` puts them into the page. Nothing is measured: the figures were measured at export.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gauntlet.artifacts.manifest import ADAPTER, MANIFEST_FILE, ClassifierManifest, GeneratorManifest, Metric
from gauntlet.report import wording
from gauntlet.report.exports import markdown
from gauntlet.report.statistics import wilson
from training.attack_metrics import LINF
from training.recipes import RECIPES

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = "models/artifacts", "models/cards"
CLASSIFIERS = (
    "model",
    "clean, 10,000 test images",
    "robust at Linf, 1,000",
    "certified at L2 36/255",
    "72/255",
    "108/255",
    "calibration error",
    "trained for",
)
GENERATORS = (
    "generator",
    "Fréchet distance (real images)",
    "precision (real)",
    "recall (real)",
    "rarest class of 2,000",
    "trained for",
)
PRECISE = 10_000  # number of images from which a second digit of a percentage is significant


def manifests(root: Path) -> list[ClassifierManifest | GeneratorManifest]:
    """Return the manifests of all models in the repository, grouped by data set, in the order of the recipes.

    Including those of which only the card is in the repository.
    """
    files = {file.parent.name: file for folder in FOLDERS for file in (root / folder).glob(f"*/{MANIFEST_FILE}")}
    unsorted = [ADAPTER.validate_json(files[name].read_bytes()) for name in RECIPES if name in files]
    datasets = list(dict.fromkeys(manifest.dataset for manifest in unsorted))
    return sorted(unsorted, key=lambda manifest: datasets.index(manifest.dataset))


def tables(root: Path) -> dict[str, str]:
    """Return both tables as Markdown, by their first lines."""
    found = manifests(root)
    rows = {
        CLASSIFIERS: [_classifier(manifest) for manifest in found if isinstance(manifest, ClassifierManifest)],
        GENERATORS: [_generator(manifest) for manifest in found if isinstance(manifest, GeneratorManifest)],
    }
    made = (markdown.table(heads, lines) for heads, lines in rows.items())
    return {lines[0]: "\n".join(lines) for lines in made}


def _classifier(manifest: ClassifierManifest) -> list[str]:
    metrics, eps = manifest.metrics, LINF[manifest.dataset]
    robust = metrics[f"robust_accuracy_linf_{eps:.3g}"]
    prefix = "smoothed_" if manifest.sigma else ""
    certified = [metrics.get(f"{prefix}certified_accuracy_{radius}") for radius in (36, 72, 108)]
    error = metrics.get("calibration_error")
    return [
        f"`{manifest.name}`",
        _share(metrics["accuracy"]),
        f"{wording.budget(eps)}: {_share(robust)}",
        *("" if found is None else _share(found) for found in certified),
        "" if error is None else f"{error.value:.3f}",
        _effort(manifest),
    ]


def _generator(manifest: GeneratorManifest) -> list[str]:
    metrics = manifest.metrics

    def beside(name: str, digits: str) -> str:
        return f"{metrics[name].value:{digits}} ({metrics[f'{name}_of_real_images'].value:{digits}})"

    return [
        f"`{manifest.name}`",
        beside("frechet_distance", ".1f"),
        beside("precision", ".2f"),
        beside("recall", ".2f"),
        f"{100 * metrics['min_class_share'].value:.1f} %",
        _effort(manifest),
    ]


def _share(metric: Metric) -> str:
    low, high = wilson(round(metric.value * metric.n), metric.n)
    digits = 2 if metric.n >= PRECISE else 1
    return f"{100 * metric.value:.{digits}f} % ({100 * low:.1f} to {100 * high:.1f})"


def _effort(manifest: ClassifierManifest | GeneratorManifest) -> str:
    assert manifest.training is not None  # a recipe made it
    return f"{manifest.training.epochs} epochs, {manifest.training.seconds / 60:.0f} min"


def replaced(text: str, made: dict[str, str]) -> str:
    """Return the page with its old tables, found by first line or first cell, replaced by the new ones."""
    blocks = text.split("\n\n")
    for head, table in made.items():
        first = head.split(" | ")[0] + " |"
        (place,) = (number for number, block in enumerate(blocks) if block.startswith((head, first)))
        blocks[place] = table
    return "\n\n".join(blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(prog="python -m bench.results", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/results.md")
    written, made = parser.parse_args(arguments).write, tables(ROOT)
    page = ROOT / "docs" / "results.md"
    if written:
        page.write_text(replaced(page.read_text(), made))
    else:
        print("\n\n".join(made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
