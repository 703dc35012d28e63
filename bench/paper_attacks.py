"""The sections of docs/paper.md that need attacks: figures 17 to 20 of the student paper, and its claims."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from bench.paper_captions import CAPTIONS
from gauntlet.artifacts import image_conversion
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.evaluation import referee
from gauntlet.report import statistics
from gauntlet.runtime.classifier import Classifier
from gauntlet.threat import Threat
from training.attack_metrics import LINF

if TYPE_CHECKING:
    from bench.paper import Paper

PICTURED = 6  # images in a row of a figure
MEASURED = 100  # images from which a number is computed


def attack_sections(page: str, dataset: str) -> list[str]:
    """Return the sections on the page that report attacks on a data set, unchanged."""
    sections = re.split(r"\n\n(?=## )", page.rstrip("\n"))
    heads = (
        f"## Attacks on `{dataset}-",
        "## The noise that Carlini-Wagner needs on ",
        "## Old adversarial examples on ",
    )
    return [part for part in sections if part.startswith(heads) and dataset in part.partition("\n")[0]]


def attacked(paper: Paper, dataset: str) -> Iterator[str]:
    """Figures 17 and 18: clean images, Carlini-Wagner, FGSM."""
    model, eps = paper.classifier(f"{dataset}-standard"), LINF[dataset]
    x, y = right_on(paper.sets[dataset], [model])
    smallest = referee.run(model, "cw", x, y, Threat("l2"))
    signed = referee.run(model, "fgsm", x, y, Threat("linf", eps))
    names = paper.sets[dataset].classes
    rows: list[tuple[str, Tensor, list[str]]] = [
        ("clean", x, [names[label] for label in y.tolist()]),
        ("Carlini-Wagner", smallest.images, [names[label] for label in smallest.adversarial_label.tolist()]),
        (f"FGSM {eps:.3g}", signed.images, [names[label] for label in signed.adversarial_label.tolist()]),
    ]
    file = paper.docs / "paper" / f"{dataset}-attacked.png"
    draw(file, rows)
    yield f"## Attacks on `{model.name}` (figures 17 and 18)"
    yield (
        f"The paper shows rows of clean images, Carlini-Wagner and FGSM. On the first {len(x)} test images that the "
        f"model classifies correctly Carlini-Wagner (6 x 200) succeeds on {int(smallest.success.sum())}, median L2 "
        f"{statistics.median(smallest.minimal['l2'].numpy()):.3f}; FGSM at Linf "
        f"{eps:.3g} on {int(signed.success.sum())}."
    )
    yield f"![clean, Carlini-Wagner, FGSM](paper/{file.name})"
    yield CAPTIONS[dataset, "attacked"]


def noise_needed(paper: Paper, dataset: str) -> Iterator[str]:
    """Figures 19 and 20: the noise that Carlini-Wagner needs, with and without the constraint."""
    families = ("standard", "lipschitz-paper", "lipschitz")
    models = [paper.classifier(f"{dataset}-{name}") for name in families if f"{dataset}-{name}" in paper.models]
    x, y = right_on(paper.sets[dataset], models)
    rows: list[tuple[str, Tensor, list[str]]] = [("clean", x, [""] * len(x))]
    table, middles = ["| model | success | median L2 |", "| --- | --- | --- |"], []
    for model in models:
        outcome = referee.run(model, "cw", x, y, Threat("l2"))
        noise = torch.from_numpy(np.stack([image_conversion.amplified(change) for change in outcome.images - x]))
        sizes = outcome.minimal["l2"]
        rows.append((model.name.removeprefix(f"{dataset}-"), noise, [f"L2 {size:.2f}" for size in sizes.tolist()]))
        middle = statistics.median(sizes.numpy())
        middles.append(math.inf if middle is None else middle)
        table.append(f"| `{model.name}` | {int(outcome.success.sum())} of {len(x)} | {words(middle)} |")
    file = paper.docs / "paper" / f"{dataset}-noise.png"
    draw(file, rows)
    yield f"## The noise that Carlini-Wagner needs on {dataset} (figures 19 and 20)"
    yield (
        "The paper's claim: with the constraint the noise is larger. On the first images that all of these models "
        "classify correctly, 6 searches of 200 steps, a failure counted as infinite; the noise is amplified to full "
        "contrast in the picture, its size below it."
    )
    yield "\n".join(table)
    if len(models) > 1:
        defended = zip(models[1:], middles[1:], strict=True)
        times = [f"{middle / middles[0]:.1f} times as long with `{model.name}`" for model, middle in defended]
        holds = all(middle > middles[0] for middle in middles[1:])
        yield f"So the median noise is {', '.join(times)}: the claim {'holds' if holds else 'does not hold'}."
    yield f"![noise](paper/{file.name})"
    yield CAPTIONS[dataset, "noise"]


def old_examples(paper: Paper, dataset: str) -> Iterator[str]:
    """The claim that the defence classifies old adversarial examples correctly, compared with undefended controls."""
    attacked = paper.classifier(f"{dataset}-standard")
    names = ("lipschitz", "lipschitz-paper", "standard-control", "lipschitz-control")
    others = [paper.classifier(f"{dataset}-{name}") for name in names if f"{dataset}-{name}" in paper.models]
    x, y = right_on(paper.sets[dataset], [attacked, *others])
    header = " | ".join(f"`{other.name.removeprefix(f'{dataset}-')}`" for other in others)
    rows = [f"| made on `{attacked.name}` | successes | median L2 | {header} |", "|" + " --- |" * (3 + len(others))]
    gains = []
    for kappa in (0, 10):
        outcome = referee.run(attacked, "cw", x, y, Threat("l2"), params={"kappa": kappa})
        won = outcome.success
        right = [int((other.predict(outcome.images[won]).argmax(dim=1) == y[won]).sum()) for other in others]
        middle = words(statistics.median(outcome.l2[won].numpy()))
        controls = [count for other, count in zip(others, right, strict=True) if other.name.endswith("-control")]
        if controls:
            gains.append(f"{right[0] - max(controls):+d} of {int(won.sum())} at kappa {kappa}")
        cells = [f"Carlini-Wagner, kappa {kappa}", f"{int(won.sum())} of {len(x)}", middle, *map(str, right)]
        rows.append(f"| {' | '.join(cells)} |")
    yield f"## Old adversarial examples on {dataset}"
    yield (
        "The paper's claim: the constrained network classifies them right again. So may any other network: the "
        "controls have no defence, `standard-control` being `standard` from another seed and `lipschitz-control` the "
        "architecture of `lipschitz` without the constraint. What counts is the difference. Images that all of them "
        "classify correctly; how many of the successes each gets right:"
    )
    yield "\n".join(rows)
    if gains:
        yield f"`{others[0].name}` beside the better control: {', '.join(gains)}."


def right_on(data: EvalSet, models: Sequence[Classifier]) -> tuple[Tensor, Tensor]:
    """Return the first images that all models classify correctly, and their labels: (n, C, H, W), (n,).

    n is at most MEASURED.
    """
    x, y = map(torch.from_numpy, data.head(min(len(data.labels), 10 * MEASURED)))
    right = torch.stack([model.predict(x).argmax(dim=1) == y for model in models]).all(dim=0)
    rows = right.nonzero().squeeze(1)[:MEASURED]
    return x[rows], y[rows]


def words(value: float | None) -> str:
    """Return a median as text; None, because most of the attacks failed, is "infinite"."""
    return "infinite" if value is None else f"{value:.3f}"


def draw(file: Path, rows: Sequence[tuple[str, Tensor, Sequence[str]]]) -> None:
    """Draw rows of images (N, C, H, W), each with a name and a caption for each image."""
    figure, axes = plt.subplots(len(rows), PICTURED, figsize=(1.6 * PICTURED, 1.9 * len(rows)), dpi=80, squeeze=False)
    for line, (name, pictures, captions) in zip(axes, rows, strict=True):
        for axis, picture, caption in zip(line, pictures[:PICTURED], captions[:PICTURED], strict=True):
            options: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1} if len(picture) == 1 else {}
            axis.imshow(picture.movedim(0, 2).squeeze(2), **options)
            axis.set_title(caption, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=9)
    figure.tight_layout()
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)
