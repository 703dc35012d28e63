"""``python -m bench.paper``: write docs/paper.md, which compares the student paper's figures and numbers with ours.

Attacks are run on the shipped files and the evaluation sets, seed 0; accuracies, curves and sample sheets are those of
the artefacts. Missing models and evaluation sets are named on the page.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.paper_attacks import attack_sections, attacked, noise_needed, old_examples
from bench.paper_captions import CAPTIONS
from bench.paper_generators import adversaries, autoencoders
from gauntlet.artifacts import artefact_folders, evaluation_sets, onnx_file
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import ADAPTER, MANIFEST_FILE, Metric
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from training.attack_metrics import LINF
from training.data import data_root
from training.evalset import NOT_OFFICIAL
from training.table import percent

ARTIFACTS = Path("models/artifacts")
CARDS = Path("models/cards")
EVALSETS = Path("models/evalsets")


@dataclass(frozen=True)
class Paper:
    """The available models, cards and evaluation sets, and the folder for the figures."""

    docs: Path
    models: dict[str, artefact_folders.Artefact]
    cards: dict[str, Path]  # of these, and of the models whose weights are not in the repository
    sets: dict[str, EvalSet]

    def classifier(self, name: str) -> Classifier:
        model = classifier.open_model(self.models[name])
        assert isinstance(model, OnnxClassifier)
        return model

    def picture(self, model: str, name: str) -> Iterator[str]:
        """Yield a picture of an artefact and its caption, or a note that it is missing."""
        file = self.cards.get(model, Path()) / f"{name}.png"
        if not file.is_file():
            yield f"*`{model}` is not there.*"
        else:
            yield f"![{model}, {name}](../{file})"
            yield CAPTIONS[model, name]

    def value(self, model: str, name: str) -> float | None:
        """Return a metric from a manifest, or None."""
        metric = self._metrics.get(model, {}).get(name)
        return None if metric is None else metric.value

    @cached_property
    def _metrics(self) -> dict[str, dict[str, Metric]]:
        files = {name: folder / MANIFEST_FILE for name, folder in self.cards.items()}
        return {name: ADAPTER.validate_json(file.read_bytes()).metrics for name, file in files.items()}

    def metric(self, model: str, name: str) -> str:
        """Return a metric from a manifest as text: shares in per cent with a 95 % interval; with n."""
        found = self._metrics.get(model, {}).get(name)
        if found is None:
            return "not there"
        if "accuracy" not in name and not name.endswith("share"):
            return f"{found.value:.3f} (n = {found.n})"
        return f"{percent(round(found.value * found.n), found.n)}, n = {found.n}"


def main() -> None:
    """Write docs/paper.md and docs/paper/*.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--keep-attacks", action="store_true", help="run no attacks: leave their sections unchanged")
    options = parser.parse_args()
    docs, page = options.docs, options.docs / "paper.md"
    (docs / "paper").mkdir(parents=True, exist_ok=True)
    cards = {file.parent.name: file.parent for root in (ARTIFACTS, CARDS) for file in root.glob(f"*/{MANIFEST_FILE}")}
    paper = Paper(
        docs,
        artefact_folders.load_all(ARTIFACTS),
        cards,
        evaluation_sets.load_all((EVALSETS, data_root() / "evalsets")),
    )
    parts = [*introduction(paper), *autoencoders(paper), *adversaries(paper), *classifiers(paper)]
    for dataset in ("fashion-mnist", "cifar10"):
        kept = attack_sections(page.read_text(), dataset) if options.keep_attacks else []
        if dataset not in paper.sets:
            parts += [f"## Attacks and defences on {dataset}", evaluation_sets.missing(dataset, paper.sets)]
        elif f"{dataset}-standard" in paper.models:
            parts += kept or [*attacked(paper, dataset), *noise_needed(paper, dataset), *old_examples(paper, dataset)]
            parts += defences(paper, dataset)
    page.write_text("\n\n".join(parts) + "\n")


def introduction(paper: Paper) -> Iterator[str]:
    """Yield the title and the introduction of the page."""
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


def classifiers(paper: Paper) -> Iterator[str]:
    """Yield the sections on figures 14 to 16, and the two accuracies."""
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
        yield from paper.picture(name, "curves")


def architecture(path: Path) -> str:
    """Describe the layers of a graph in one line: weighted layers with their output size, others by name."""
    model = onnx_file.read(path).graph
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
    """Yield a table of the accuracies that each kind of training reaches, from the manifests."""
    eps = f"{LINF[dataset]:.3g}"
    columns = {
        "clean": "accuracy",
        "certified at L2 36/255": "certified_accuracy_36",
        "certified in Linf": "certified_accuracy_linf",
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
        "defence (`adversarial`), training for a proof in the norm of FGSM (`interval`; certified at the distance "
        "on its card) and no defence. Robust: under the worst of APGD on cross-entropy, targeted APGD and "
        "PGD (100 steps, 5 restarts). The last two columns, over the images that the model gets right, do not depend "
        "on the scale of the logits; the last is what a linear model would expect as the distance, after the larger "
        "of the slopes at the image and at its adversarial example."
    )
    yield "\n".join(rows)


if __name__ == "__main__":
    main()
