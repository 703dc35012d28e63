"""``python -m training table``: accuracies of every shipped classifier, recomputed from its file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.evaluation.calibration import reliability
from gauntlet.report.statistics import wilson
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from gauntlet.threat import Threat
from training.attack_metrics import ATTACKED, LINF, worst_case
from training.evalset import NOT_OFFICIAL

RADII = {"36/255": 36 / 255, "72/255": 72 / 255, "108/255": 108 / 255, "1.58": 1.58}  # of the L2 certificate


def table(models: Path, evalsets: Iterable[Path], *, attacked: bool) -> str:
    """Return a Markdown table of clean, certified and robust accuracy and calibration error.

    On whole test sets, but robust accuracy on the first 1,000 images. A model is measured on every evaluation set of
    its shape and classes. Raises ArtefactError.
    """
    sets = evaluation_sets.load_all(evalsets)
    heads = [
        "model",
        "images",
        "clean",
        *(f"L2 {name}" for name in RADII),
        "Linf eps, robust accuracy",
        "calibration error",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for artefact in artefact_folders.load_all(models).values():
        if isinstance(artefact.manifest, ClassifierManifest):
            model = classifier.open_model(artefact)
            assert isinstance(model, OnnxClassifier)
            fitting = [data for data in sets.values() if fits(model, data)]
            lines += [row(model, data, attacked=attacked) for data in fitting] or [
                f"| {model.name} | none here: `make data` |" + " |" * (len(heads) - 2)
            ]
    return "\n".join(lines)


def fits(model: Classifier, data: EvalSet) -> bool:
    """Whether the images have the model's input shape and classes."""
    return model.manifest.input_shape == data.images.shape[1:] and model.manifest.classes == data.classes


def row(model: Classifier, data: EvalSet, *, attacked: bool) -> str:
    """One line of the table."""
    return f"| {' | '.join(_cells(model, data, attacked=attacked))} |"


def _cells(model: Classifier, data: EvalSet, *, attacked: bool) -> Iterator[str]:
    x, y = map(torch.from_numpy, data.head(len(data.labels)))
    logits = model.predict(x)
    right = logits.argmax(dim=1) == y
    radius = model.certificate.radius(logits)
    yield model.name
    yield f"{data.name}{' (not the official files)' if NOT_OFFICIAL in data.licence else ''}, {len(y)}"
    yield share(right)
    for eps in RADII.values():
        yield share(torch.from_numpy(right.numpy() & (radius >= eps))) if radius is not None else "none"
    eps = LINF[model.manifest.dataset]
    if attacked:
        yield f"{eps:.3g}: {share(worst_case(model, x[:ATTACKED], y[:ATTACKED], Threat('linf', eps)))}"
    else:
        yield "not measured"
    yield f"{reliability(logits.numpy(), y.numpy(), model.manifest.temperature).error:.4f}"


def share(hits: torch.Tensor) -> str:
    """Format the share of true values with its 95 % Wilson interval, in per cent."""
    return percent(int(hits.sum()), len(hits))


def percent(k: int, n: int) -> str:
    """Format k of n in the same way."""
    low, high = wilson(k, n)
    return f"{100 * k / n:.2f} % ({100 * low:.1f} to {100 * high:.1f})"
