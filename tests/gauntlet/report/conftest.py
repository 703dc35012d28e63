"""Two linear classifiers, images labelled by one of them, and the report on both: measured once for all tests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.artifacts.evaluation_sets import EvalSet
from gauntlet.report.build import assemble, cells, measure
from gauntlet.report.schema import CellResult, Report, ReportRequest
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from tests import tiny

N = 40
WRONG = 4  # images that tiny-a gets wrong


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of artefacts and of evaluation sets, as they lie under models/."""
    base = tmp_path_factory.mktemp("models")
    artefacts, evalsets = base / "artifacts", base / "evalsets"
    evalsets.mkdir()
    draw = np.random.default_rng(7)
    images = draw.integers(0, 256, size=(N, *tiny.SHAPE), dtype=np.uint8)
    weight = draw.normal(size=(len(tiny.CLASSES), 64)).astype(np.float32)
    logits = images.reshape(N, -1) / 255 @ weight.T
    bias = -logits.mean(axis=0).astype(np.float32)  # no class is rare
    labels = (logits + bias).argmax(axis=1)
    labels[:WRONG] = (labels[:WRONG] + 1) % len(tiny.CLASSES)
    other = weight + 0.3 * draw.normal(size=weight.shape).astype(np.float32)
    tiny.linear(artefacts / "tiny-a", weight=weight, bias=bias)
    tiny.linear(artefacts / "tiny-b", weight=other.astype(np.float32), bias=bias)
    tiny.generator(artefacts / "tiny-vae")
    classes = np.array(tiny.CLASSES)
    np.savez(evalsets / "tiny.npz", images=images, labels=labels, classes=classes, licence=np.array("CC0"))
    return artefacts, evalsets


@pytest.fixture(scope="session")
def models(roots: tuple[Path, Path]) -> Mapping[str, Classifier]:
    opened = {
        name: classifier.open_model(artefact, "cpu") for name, artefact in artefact_folders.load_all(roots[0]).items()
    }
    return {name: model for name, model in opened.items() if isinstance(model, OnnxClassifier)}


@pytest.fixture(scope="session")
def evalsets(roots: tuple[Path, Path]) -> Mapping[str, EvalSet]:
    return evaluation_sets.load_all([roots[1]])


@pytest.fixture(scope="session")
def asked() -> ReportRequest:
    return ReportRequest.model_validate(
        {
            "models": ["tiny-a", "tiny-b"],
            "dataset": "tiny",
            "n": N,
            "attacks": ["pgd", "ddn"],
            "threats": [{"norm": "l2", "eps": [0.1, 0.4]}, {"norm": "linf", "eps": [0.05]}],
            "seed": 3,
        }
    )


@pytest.fixture(scope="session")
def results(
    asked: ReportRequest, models: Mapping[str, Classifier], evalsets: Mapping[str, EvalSet]
) -> list[CellResult]:
    return [measure(cell, asked, models, evalsets["tiny"]) for cell in cells(asked)]


@pytest.fixture(scope="session")
def report(
    asked: ReportRequest,
    results: list[CellResult],
    models: Mapping[str, Classifier],
    evalsets: Mapping[str, EvalSet],
) -> Report:
    return assemble(asked, results, models, evalsets["tiny"])
