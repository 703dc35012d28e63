"""What bounds prove of an exported classifier: the figures of its manifest."""

import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gauntlet import predicted_labels
from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import Metric
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import OnnxClassifier
from training.data import Examples, to_pixels

SECONDS = 10.0  # that CROWN may take for an image
BATCH = 500


def measure(folder: Path, validation: Examples, test: Examples, eps: float) -> dict[str, Metric]:
    """Shares of images that are right, and certified within Linf ``eps``: by intervals, and with CROWN's help."""
    model = classifier.open_model(artefact_folders.load(folder), "cpu")
    assert isinstance(model, OnnxClassifier)
    held_out, (x, y) = by_intervals(model, validation, eps), (to_pixels(test.images), test.labels)
    proved, right = by_intervals(model, test, eps), predicted_labels.labels(model.predict(x)) == y
    left = (right & ~proved).nonzero().squeeze(1)
    shares = {"interval_certified_accuracy_linf": proved.clone()}
    for row in tqdm(left.tolist(), desc="CROWN", unit="image", file=sys.stderr, mininterval=1.0):
        slack = float(model.certificate.slack(model.predict(x[row : row + 1]))[0])
        proof = model.bounder.prove(x[row], int(y[row]), "linf", eps, slack, ("crown",), SECONDS)
        proved[row] = proof.excluded
    shares["certified_accuracy_linf"] = proved
    figures = {name: Metric(value=float(hit.double().mean()), n=len(y), split="test") for name, hit in shares.items()}
    share = float(held_out.double().mean())
    kept = Metric(value=share, n=len(held_out), split="validation")
    return figures | {"validation_certified_accuracy_linf": kept}


def by_intervals(model: OnnxClassifier, examples: Examples, eps: float) -> Tensor:
    """Which of the images (n,) intervals prove to keep their class within Linf ``eps``."""
    found = []
    for images, labels in zip(*(torch.split(part, BATCH) for part in examples[:2]), strict=True):
        x = to_pixels(images)
        slack = torch.from_numpy(model.certificate.slack(model.predict(x)))
        found.append(model.bounder.intervals(x, labels, torch.full((len(x),), eps), slack) > 0)
    return torch.cat(found)
