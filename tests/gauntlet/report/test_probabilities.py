"""Calibration in a report: bins add up, adopted models get a temperature from images that nobody is judged on."""

import dataclasses

import numpy as np
import pytest
import torch

from gauntlet.artifacts.manifest import Adoption
from gauntlet.evaluation.held_out_images import calibrated, held_out
from gauntlet.report import probabilities
from gauntlet.report.page import render
from gauntlet.report.records import Temperature
from tests.gauntlet.report.conftest import N


class Sure:
    """Images (N, C, H, W) to logits ten times as sure as the ``honest`` labels are."""

    def __init__(self, manifest):
        self.manifest = manifest

    def predict(self, x):
        pixels = x.flatten(1)[:, : len(self.manifest.classes)]
        return 40 * pixels


@pytest.fixture
def adopted(models):
    """What is known of tiny-a, as if somebody had brought it."""
    adoption = Adoption(source_sha256="0" * 64, source_opset=20, choices={})
    return Sure(models["tiny-a"].manifest.model_copy(update={"adoption": adoption}))


def honest(evalset, model, n):
    """N random images, with labels drawn from the model's softmax at temperature 10."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (n, *evalset.images.shape[1:]), dtype=np.uint8)
    logits = model.predict(torch.from_numpy(images) / 255) / 10
    labels = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(0)).squeeze(1).numpy()
    return dataclasses.replace(evalset, images=images, labels=labels)


def test_an_adopted_models_temperature_is_fitted_on_images_that_are_not_judged(adopted, evalsets):
    data = honest(evalsets["tiny"], adopted, 1400)
    found = probabilities.temperature_of(adopted, data)
    assert found.source == "held-out images"
    assert found.value == pytest.approx(10, rel=0.5)
    judged = probabilities.judged(adopted.manifest, data, 1400)
    assert judged.sum() == 900
    spoilt = dataclasses.replace(data, labels=np.where(judged, 0, data.labels))
    assert probabilities.temperature_of(adopted, spoilt) == found


@pytest.mark.parametrize(("available", "out"), [(10_000, 500), (1400, 500), (200, 100), (99, 0)])
def test_half_of_a_set_at_most_is_held_out_whatever_its_order(adopted, evalsets, available, out):
    pixels = np.zeros((available, 1, 1, 1), np.uint8)
    data = dataclasses.replace(evalsets["tiny"], images=pixels, labels=np.arange(available) % 10)
    rows = held_out(data)
    assert len(set(rows.tolist())) == out
    assert (~probabilities.judged(adopted.manifest, data, available)).nonzero()[0].tolist() == rows.tolist()
    assert probabilities.judged(adopted.manifest, data, 30).tolist() == [row not in rows for row in range(30)]
    for labels in (data.labels, np.sort(data.labels)):  # classes that take turns, and a sorted set
        counts = np.bincount(labels[rows], minlength=10)
        assert counts.min() >= out / 10 / 3


def test_a_set_that_is_too_small_leaves_the_probabilities_as_they_are(adopted, evalsets):
    data = honest(evalsets["tiny"], adopted, 99)
    assert probabilities.temperature_of(adopted, data) == Temperature(value=1.0, source="none fitted")
    known = calibrated(adopted.manifest, adopted.predict, data)
    assert known.temperature == 1.0
    assert "not fitted" in known.adoption.choices["temperature"].reason


def test_a_temperature_that_was_settled_is_kept(adopted, models, evalsets):
    data = honest(evalsets["tiny"], adopted, 1400)
    known = Sure(calibrated(adopted.manifest, adopted.predict, data))
    assert known.manifest.adoption.choices["temperature"].reason == "fitted on 500 of 1400 images of tiny"
    shuffled = dataclasses.replace(data, labels=data.labels[::-1])
    assert probabilities.temperature_of(known, shuffled) == Temperature(
        value=known.manifest.temperature, source="manifest"
    )
    assert known.manifest.temperature == pytest.approx(10, rel=0.5)
    own = models["tiny-a"]
    assert probabilities.temperature_of(own, evalsets["tiny"]).source == "manifest"
    assert probabilities.judged(own.manifest, data, 1400).all()  # trained here: on other images


def test_answers_that_are_none_are_left_out(adopted):
    logits = torch.tensor([[5.0, 0.0], [float("nan"), 0.0], [0.0, 5.0], [float("inf"), 0.0]])
    judged = np.ones(4, dtype=bool)
    measured = probabilities.measurement(logits, judged, Temperature(value=2.0, source="manifest"))
    assert [value is None for value in measured.confidences] == [False, True, False, True]
    assert measured.confidences[0] == pytest.approx(1 / (1 + np.exp(-2.5)), rel=1e-6)
    found = probabilities.calibration_report(measured, np.array([True, True, False, True]))
    assert (found.n, sum(part.right.n for part in found.bins)) == (2, 2)
    assert probabilities.measurement(logits, judged & False, measured.temperature).confidences == [None] * 4
    silent = probabilities.measurement(logits[[1, 3]], judged[:2], measured.temperature)
    assert probabilities.calibration_report(silent, np.array([False, False])).error is None


def test_bins_of_a_report_add_up(report):
    for model in report.models:
        found = model.calibration
        assert (found.n, sum(part.right.n for part in found.bins)) == (N, N)
        assert sum(part.right.k for part in found.bins) == model.clean.k
        gaps = [part.right.n * abs(part.right.value - part.confidence) for part in found.bins]
        assert found.error == pytest.approx(sum(gaps) / N)
        assert all(part.low <= part.confidence <= part.high for part in found.bins)


def test_the_page_draws_a_bar_for_every_bin(report):
    page = render(report)
    assert page.count('<rect class="bars"') == sum(len(model.calibration.bins) for model in report.models)
    older = [model.model_copy(update={"calibration": None}) for model in report.models]
    assert "<h2>Probabilities</h2>" not in render(report.model_copy(update={"models": older}))
