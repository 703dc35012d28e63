"""Robustness figures of an exported classifier, for its manifest and for ``python -m training table``."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import Metric
from gauntlet.attacks.base import margin
from gauntlet.certify.smoothing import certify
from gauntlet.certify.smoothing_parameters import Smoothing
from gauntlet.evaluation import ensemble, referee
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from gauntlet.threat import Threat, l2
from training.data import Examples, to_pixels

LINF = {"mnist": 0.3, "fashion-mnist": 0.1, "cifar10": 8 / 255}  # the field's usual distances
ENSEMBLE: tuple[tuple[str, dict[str, object]], ...] = (
    ("apgd", {}),
    ("apgd-t", {}),
    ("pgd", {"steps": 100, "restarts": 5}),
)
ATTACKED = 1_000  # images for the ensemble
MEASURED = 500  # images for the smallest distances, and for the smoothed classifier
CERTIFY: dict[str, Any] = {"samples": 10_000, "alpha": 0.001}  # of the smoothed classifier, in addition to its sigma
SMOOTHED_EPS = {"36": 36 / 255, "72": 72 / 255, "108": 108 / 255, "0.5": 0.5}


def measure(folder: Path, test: Examples) -> dict[str, Metric]:
    """Measure Linf robust accuracy under the worst of the ensemble, and the median minimal L2 perturbation with DDN.

    Only the first images of the test set are used. The margin divided by the local slope is the distance to the
    nearest decision boundary of a linear model of the classifier: it does not depend on the scale of the logits.
    """
    model = classifier.open_model(artefact_folders.load(folder))
    assert isinstance(model, OnnxClassifier)
    eps = LINF[model.manifest.dataset]
    x, y = to_pixels(test.images[:ATTACKED]), test.labels[:ATTACKED]
    robust = worst_case(model, x, y, Threat("linf", eps))
    x, y = x[:MEASURED], y[:MEASURED]
    outcome = referee.run(model, "ddn", x, y, Threat("l2"), params={"steps": 100})
    distances = outcome.minimal["l2"][outcome.correct]
    slopes = torch.maximum(slope(model, x, y), slope(model, outcome.images, y))[outcome.correct]
    linear = margin(model.predict(x), y)[outcome.correct] / slopes.clamp_min(1e-12)
    figures = {
        f"robust_accuracy_linf_{eps:.3g}": (float(robust.double().mean()), len(robust)),
        "median_minimal_l2": (float(distances.median()), len(distances)),
        "median_margin_over_slope": (float(linear.median()), len(linear)),
    }
    return {
        name: Metric(value=value, n=n, split="test") for name, (value, n) in figures.items() if value < float("inf")
    }


def measure_smoothed(folder: Path, test: Examples, sigma: float) -> dict[str, Metric]:
    """Measure accuracy and certified accuracies of the smoothed classifier on the first images of the test set.

    By the algorithm CERTIFY (Cohen et al., arXiv 1902.02918).
    """
    model = classifier.open_model(artefact_folders.load(folder))
    assert isinstance(model, OnnxClassifier)
    smoothing = Smoothing(sigma=sigma, **CERTIFY)
    x, y = to_pixels(test.images[:MEASURED]), test.labels[:MEASURED]
    images = tqdm(x, desc="certifying", unit="image", file=sys.stderr, mininterval=1.0)
    results = [certify(model.predict, image[None], smoothing, first_index=i) for i, image in enumerate(images)]
    right = torch.cat([smoothed.label for smoothed in results]) == y  # the label of an abstention equals no class
    radii = torch.cat([smoothed.radius for smoothed in results])
    hits = {"smoothed_accuracy": right} | {
        f"smoothed_certified_accuracy_{name}": right & (radii >= eps) for name, eps in SMOOTHED_EPS.items()
    }
    return {name: Metric(value=float(hit.double().mean()), n=len(y), split="test") for name, hit in hits.items()}


def worst_case(model: Classifier, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    """Which of the images (n, C, H, W) no attack of the ensemble breaks: (n,) bool.

    Each attack gets only the images that the attacks before it did not break.
    """
    run = partial(referee.run, model, threat=threat)
    return ensemble.in_turn(run, ENSEMBLE, x, y, threat, index=torch.arange(len(x))).robust


def slope(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Compute the L2 norm (n,) of the gradient of the margin of y (n,) over the next class, at x (n, C, H, W)."""
    slopes = []
    for part, labels in zip(torch.split(x, 128), torch.split(y, 128), strict=True):
        probe = part.to(model.device).requires_grad_()
        (gradient,) = torch.autograd.grad(margin(model.twin(probe), labels.to(model.device)).sum(), probe)
        slopes.append(l2(gradient).cpu())
    return torch.cat(slopes)
