"""``python -m bench.paper``: the student paper's figures and numbers, and ours, into docs/paper.md.

Attacks are run on the shipped files and the evaluation sets, seed 0; accuracies, curves and sample sheets are those of
the artefacts. A model or an evaluation set that is not there is named.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from gauntlet import evalset, graph, images, referee, runtime, store
from gauntlet.evalset import EvalSet
from gauntlet.manifest import ADAPTER, MANIFEST_FILE, Metric
from gauntlet.report import statistics
from gauntlet.runtime import Classifier
from gauntlet.threat import Threat
from training.data import data_root
from training.evalset import NOT_OFFICIAL
from training.robustness import LINF
from training.table import percent

ARTIFACTS = Path("models/artifacts")
CARDS = Path("models/cards")
EVALSETS = Path("models/evalsets")
PICTURED = 6  # images in a row of a figure
MEASURED = 100  # images behind a number


@dataclass(frozen=True)
class Paper:
    """What is there to draw from, and where the figures go."""

    docs: Path
    models: dict[str, store.Artefact]
    cards: dict[str, Path]  # of these and of the models whose weights do not travel
    sets: dict[str, EvalSet]

    def classifier(self, name: str) -> Classifier:
        model = runtime.open_model(self.models[name])
        assert isinstance(model, Classifier)
        return model

    def picture(self, model: str, file: str, caption: str) -> str:
        """A picture of an artefact, or a word that it is missing."""
        if model not in self.cards or not (self.cards[model] / file).is_file():
            return f"*`{model}` is not there.*"
        return f"![{caption}](../{self.cards[model] / file})"

    def value(self, model: str, name: str) -> float | None:
        """A figure from a manifest; None where there is none."""
        found = self._metrics.get(model, {}).get(name)
        return None if found is None else found.value

    @cached_property
    def _metrics(self) -> dict[str, dict[str, Metric]]:
        files = {name: folder / MANIFEST_FILE for name, folder in self.cards.items()}
        return {name: ADAPTER.validate_json(file.read_bytes()).metrics for name, file in files.items()}

    def metric(self, model: str, name: str) -> str:
        """A figure from a manifest, with its 95 % interval and n; shares in per cent."""
        found = self._metrics.get(model, {}).get(name)
        if found is None:
            return "not there"
        if "accuracy" not in name and not name.endswith("share"):
            return f"{found.value:.3g} (n = {found.n})"
        return f"{percent(round(found.value * found.n), found.n)}, n = {found.n}"


def main() -> None:
    """Write docs/paper.md and docs/paper/*.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    docs = parser.parse_args().docs
    (docs / "paper").mkdir(parents=True, exist_ok=True)
    cards = {file.parent.name: file.parent for root in (ARTIFACTS, CARDS) for file in root.glob(f"*/{MANIFEST_FILE}")}
    paper = Paper(docs, store.load_all(ARTIFACTS), cards, evalset.load_all((EVALSETS, data_root() / "evalsets")))
    parts = [*introduction(paper), *autoencoders(paper), *adversaries(paper), *classifiers(paper)]
    for dataset in ("fashion-mnist", "cifar10"):
        if dataset not in paper.sets:
            parts += [f"## Attacks and defences on {dataset}", evalset.missing(dataset, paper.sets)]
        elif f"{dataset}-standard" in paper.models:
            parts += [*attacked(paper, dataset), *noise_needed(paper, dataset), *old_examples(paper, dataset)]
            parts += defences(paper, dataset)
    (docs / "paper.md").write_text("\n\n".join(parts) + "\n")


def introduction(paper: Paper) -> Iterator[str]:
    """What this page is."""
    yield "# The student paper, figure by figure"
    yield (
        "Gauntlet grew out of a student paper on generative networks, adversarial examples and a Lipschitz-constrained "
        "defence. This page puts our results beside each of its figures and numbers. `make paper` writes it: attacks "
        "are run on the models' files (seed 0), accuracies are those of the manifests, on whole test sets unless n "
        "says otherwise, with 95 % Wilson intervals. Weights of the models in `models/cards` do not travel: "
        "`python -m training train NAME` makes them, and without them their columns are left out."
    )
    copies = [name for name, data in paper.sets.items() if NOT_OFFICIAL in data.licence]
    if copies:
        yield f"**Not the official files:** {', '.join(copies)}. Figures on them are not comparable to published ones."


def autoencoders(paper: Paper) -> Iterator[str]:
    """Figures 4 to 7."""
    yield "## Variational autoencoder (figures 4 to 7)"
    yield "The paper: 10 latent dimensions, MNIST and Fashion-MNIST; blurred on CIFAR-10. Ours, with 10 as well:"
    for name in ("mnist-vae", "fashion-mnist-vae", "cifar10-vae", "cifar10-vae-128"):
        yield f"### `{name}`"
        yield f"ELBO on the test set {paper.metric(name, 'elbo')} nats; {_quality(paper, name)}."
        for file in ("samples.png", "curves.png", "latent.png"):
            yield paper.picture(name, file, f"{name}, {file.removesuffix('.png')}")


def adversaries(paper: Paper) -> Iterator[str]:
    """Figures 8 to 13."""
    yield "## Generative adversarial networks (figures 8 to 13)"
    yield (
        "The paper: a fully connected GAN, four discriminator steps for each generator step, samples at epochs 100, "
        "200 and 300; a DCGAN that failed on MNIST and, deeper, worked on CIFAR-10. Ours, samples as training went on:"
    )
    for name in ("mnist-gan", "fashion-mnist-gan", "cifar10-gan", "mnist-dcgan-plain", "mnist-dcgan", "cifar10-dcgan"):
        yield f"### `{name}`"
        yield f"{_quality(paper, name).capitalize()}."
        for file in ("progress.png", "samples.png", "curves.png"):
            yield paper.picture(name, file, f"{name}, {file.removesuffix('.png')}")


def _quality(paper: Paper, name: str) -> str:
    far, near = (paper.value(name, f"frechet_distance{of}") for of in ("", "_of_real_images"))
    times = f"{far / near:.0f} times as far as" if far and near else "beside"
    return (
        f"Frechet distance {paper.metric(name, 'frechet_distance')}, {times} real images "
        f"({paper.metric(name, 'frechet_distance_of_real_images')}); precision {paper.metric(name, 'precision')} (real "
        f"images {paper.metric(name, 'precision_of_real_images')}), recall {paper.metric(name, 'recall')} (real images "
        f"{paper.metric(name, 'recall_of_real_images')}); rarest class {paper.metric(name, 'min_class_share')}"
    )


def classifiers(paper: Paper) -> Iterator[str]:
    """Figures 14 to 16, and the two accuracies."""
    yield "## Classifiers (figures 14 to 16)"
    rows = ["| | paper | ours | difference |", "| --- | --- | --- | --- |"]
    for name, theirs in (("fashion-mnist-standard", 0.9236), ("cifar10-standard", 0.7982)):
        found = paper.value(name, "accuracy")
        gap = "" if found is None else f"{100 * (found - theirs):+.2f} points"
        cells = f"`{name}`, clean accuracy", f"{100 * theirs:.2f} %", paper.metric(name, "accuracy"), gap
        rows.append(f"| {' | '.join(cells)} |")
    yield "\n".join(rows)
    for name in ("fashion-mnist-standard", "cifar10-standard"):
        if name in paper.models:
            yield f"`{name}`, read from its file: {architecture(paper.models[name].model_path)}."
        yield paper.picture(name, "curves.png", f"{name}, learning curves")


def architecture(path: Path) -> str:
    """The layers of a graph in one line: weighted ones with what they make, others by name."""
    model = graph.read(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.initializer}
    words = []
    for node in model.node:
        weight = next((shapes[name] for name in node.input[1:] if len(shapes.get(name, ())) > 1), None)
        if node.op_type == "Conv" and weight:
            words.append(f"{weight[0]} filters {weight[2]}x{weight[3]}")
        elif node.op_type in ("Gemm", "MatMul") and weight:
            words.append(f"dense {weight[0]}")
        elif node.op_type in ("Relu", "MaxPool"):
            words.append(node.op_type)
    return ", ".join(words)


def defences(paper: Paper, dataset: str) -> Iterator[str]:
    """What each way of training buys, from the manifests."""
    eps = f"{LINF[dataset]:.3g}"
    columns = {
        "clean": "accuracy",
        "certified at L2 36/255": "certified_accuracy_36",
        f"robust at Linf {eps}": f"robust_accuracy_linf_{eps}",
        "median L2 of DDN": "median_minimal_l2",
        "margin over local slope": "median_margin_over_slope",
    }
    rows = [f"| model | {' | '.join(columns)} |", "|" + " --- |" * (len(columns) + 1)]
    measured = [
        name for name in sorted(paper.cards) if name.startswith(f"{dataset}-") and paper.value(name, "accuracy")
    ]
    rows += [
        f"| `{name}` | {' | '.join(paper.metric(name, column) for column in columns.values())} |" for name in measured
    ]
    yield f"## Defences on {dataset}, side by side"
    yield (
        "The paper has one defence, a constraint on every layer (`lipschitz-paper`), and takes its eq. 10 from a "
        "method that is a penalty (`penalty`). Beside them: our constrained network (`lipschitz`), the field's usual "
        "defence (`adversarial`) and no defence. Robust: under the worst of APGD on cross-entropy, targeted APGD and "
        "PGD (100 steps, 5 restarts). The last two columns, over the images that the model gets right, do not depend "
        "on the scale of the logits; the last is what a linear model would expect as the distance, after the larger "
        "of the slopes at the image and at its adversarial example."
    )
    yield "\n".join(rows)


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


def noise_needed(paper: Paper, dataset: str) -> Iterator[str]:
    """Figures 19 and 20: the noise that Carlini-Wagner needs, with and without the constraint."""
    families = ("standard", "lipschitz-paper", "lipschitz")
    models = [paper.classifier(f"{dataset}-{name}") for name in families if f"{dataset}-{name}" in paper.models]
    x, y = right_on(paper.sets[dataset], models)
    rows: list[tuple[str, Tensor, list[str]]] = [("clean", x, [""] * len(x))]
    table, middles = ["| model | success | median L2 |", "| --- | --- | --- |"], []
    for model in models:
        outcome = referee.run(model, "cw", x, y, Threat("l2"))
        noise = torch.stack([images.amplified(change) for change in outcome.images - x])
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


def old_examples(paper: Paper, dataset: str) -> Iterator[str]:
    """The claim that the defence classifies old adversarial examples right again, beside models without the defence."""
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
    """The first images that all models classify correctly: (MEASURED, C, H, W), (MEASURED,)."""
    x, y = data.head(min(len(data.labels), 10 * MEASURED))
    right = torch.stack([model.predict(x).argmax(dim=1) == y for model in models]).all(dim=0)
    rows = right.nonzero().squeeze(1)[:MEASURED]
    return x[rows], y[rows]


def words(value: float | None) -> str:
    """A median, which is none where most of the attacks failed."""
    return "infinite" if value is None else f"{value:.3f}"


def draw(file: Path, rows: Sequence[tuple[str, Tensor, Sequence[str]]]) -> None:
    """Rows of images (N, C, H, W), each with a name and a caption for each image."""
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


if __name__ == "__main__":
    main()
