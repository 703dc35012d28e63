"""Reports on many classes and large images: top-5 accuracy, short tables, few and large pictures."""

import base64

import numpy as np
import pytest
import torch

from gauntlet import open_classifier, robustness_report
from gauntlet.artifacts import image_conversion
from gauntlet.predicted_labels import among_likeliest
from gauntlet.report import assemble, wording
from gauntlet.report.page import is_large, render
from gauntlet.report.per_class import weakest
from gauntlet.report.schema import ClassReport, Report
from tests.gauntlet.onnx_import.test_pixel_detection import network

CLASSES, N = 40, 80


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("models") / "many.onnx"
    path.write_bytes(network(classes=CLASSES))
    model = open_classifier(path)
    x = np.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), np.uint8)
    ranked = model.predict(torch.from_numpy(x).float() / 255).argsort(dim=1, descending=True)
    y = np.arange(N) % CLASSES
    y[: N // 2] = [int(ranked[i, i % 8]) for i in range(N // 2)]  # at each of the first eight places in turn
    asked = {"attacks": ["noise"], "threats": [{"norm": "linf", "eps": [0.1]}], "checked": 1}
    made = robustness_report([model], x, y, **asked)
    likeliest = ranked[:, :5].numpy() == y[:, None]
    assert made.models[0].top5 is not None
    assert (made.models[0].clean.k, made.models[0].top5.k) == (likeliest[:, 0].sum(), likeliest.any(axis=1).sum())
    return made


def test_top_five_accuracy_stands_beside_the_accuracy(report: Report) -> None:
    top5 = report.models[0].top5
    assert top5 is not None
    assert N > top5.k > report.models[0].clean.k > 0
    assert f"top 5: {wording.percent(top5)}" in render(report)
    told = f"of {wording.percent(top5)} is among its five likeliest"
    assert any(told in finding.text for finding in wording.verdict(report))


def test_an_answer_that_is_none_has_no_likeliest_class() -> None:
    logits = torch.arange(30.0).repeat(3, 1)
    logits[2, 4] = torch.nan
    assert among_likeliest(logits, torch.tensor([25, 24, 29]), 5).tolist() == [True, False, False]


def test_the_table_of_classes_stays_short(report: Report) -> None:
    model = report.models[0]
    images = sum(entry.clean.n for entry in model.classes)
    assert len(model.classes) == 20
    assert model.classes_left_out >= 1
    assert images < N
    assert [entry.label for entry in model.classes] == sorted(entry.label for entry in model.classes)
    assert f"Of {20 + model.classes_left_out} classes that have images" in render(report)


def test_the_weakest_classes_are_listed(report: Report) -> None:
    def of(label: int, standing: int) -> ClassReport:
        one = report.models[0].classes[0]
        rate = one.budgets[0].robust.model_copy(update={"k": standing, "n": 4})
        budget = one.budgets[0].model_copy(update={"robust": rate})
        return one.model_copy(update={"label": label, "budgets": [budget]})

    found = weakest([of(0, 3), of(1, 4), of(2, 0), of(3, 1)], 3)
    assert [entry.label for entry in found] == [0, 2, 3]


@pytest.mark.parametrize(("shape", "count"), [((1, 28, 28), 3), ((3, 32, 32), 3), ((3, 224, 224), 1)])
def test_few_pictures_of_large_images_are_shown(shape: tuple[int, int, int], count: int) -> None:
    assert assemble.examples_shown(int(np.prod(shape))) == count
    picture = base64.b64encode(image_conversion.to_png(np.zeros(shape, np.float32))).decode()
    assert is_large(picture) == (shape[1] > 64)
