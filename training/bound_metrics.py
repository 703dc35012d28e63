"""Linf certified accuracy of an exported classifier, proved by bounds: figures for its manifest."""

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

SECONDS = 10.0  # time limit of CROWN for one image
BATCH = 500


def measure(folder: Path, validation: Examples, test: Examples, eps: float) -> dict[str, Metric]:
    """Measure the share of images classified right and certified within Linf ``eps``.

    By interval bounds alone, and by interval bounds and, where they fail, CROWN.
    """
    model = classifier.open_model(artefact_folders.load(folder), "cpu")
    assert isinstance(model, OnnxClassifier)
    held_out, (x, y) = by_intervals(model, validation, eps), (to_pixels(test.images), test.labels)
    proved, right = by_intervals(model, test, eps), predicted_labels.labels(model.predict(x)) == y
    unproved = (right & ~proved).nonzero().squeeze(1)
    shares = {"interval_certified_accuracy_linf": proved.clone()}
    for row in tqdm(unproved.tolist(), desc="CROWN", unit="image", file=sys.stderr, mininterval=1.0):
        slack = float(model.certificate.slack(model.predict(x[row : row + 1]))[0])
        proof = model.bounder.prove(x[row], int(y[row]), "linf", eps, slack, ("crown",), SECONDS)
        proved[row] = proof.excluded
    shares["certified_accuracy_linf"] = proved
    figures = {name: Metric(value=float(hit.double().mean()), n=len(y), split="test") for name, hit in shares.items()}
    share = float(held_out.double().mean())
    validation_metric = Metric(value=share, n=len(held_out), split="validation")
    return figures | {"validation_certified_accuracy_linf": validation_metric}


def by_intervals(model: OnnxClassifier, examples: Examples, eps: float) -> Tensor:
    """Whether interval bounds prove that each image keeps its class within Linf ``eps``: (n,) bool."""
    proved = []
    for images, labels in zip(*(torch.split(part, BATCH) for part in examples[:2]), strict=True):
        x = to_pixels(images)
        slack = torch.from_numpy(model.certificate.slack(model.predict(x)))
        proved.append(model.bounder.intervals(x, labels, torch.full((len(x),), eps), slack) > 0)
    return torch.cat(proved)
