"""A temperature makes the probabilities of a network that is sure of too much, or of too little, mean what they say."""

import numpy as np
import pytest

from gauntlet.evaluation.calibration import fit_temperature, reliability

RANDOM = np.random.default_rng(0)
N, K = 20_000, 5


@pytest.fixture(scope="module")
def honest():
    """Logits whose softmax is the probability with which the labels were drawn."""
    logits = RANDOM.normal(0, 2, (N, K))
    powers = np.exp(logits)
    shares = (powers / powers.sum(1, keepdims=True)).cumsum(1)
    return logits, (RANDOM.random((N, 1)) > shares).sum(1).clip(max=K - 1)


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_the_temperature_undoes_a_scale(honest, scale):
    logits, labels = honest
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale, rel=0.1)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_error_falls_to_that_of_honest_probabilities(honest, scale):
    logits, labels = honest
    least = reliability(logits, labels, 1.0).error
    assert least < 0.015
    assert reliability(scale * logits, labels, 1.0).error > 0.1
    assert reliability(scale * logits, labels, fit_temperature(scale * logits, labels)).error < least + 0.01


def test_bins_hold_every_prediction_once_and_the_error_is_their_mean_gap():
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [1.0, 1e-300]])
    found = reliability(logits, [0, 1, 0, 0], 1.0)
    assert found.count.sum() == 4
    assert found.error == pytest.approx((2 * abs(0.9 - 0.5) + abs(0.6 - 1) + 0) / 4)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_logits_of_any_size_are_finite_probabilities(temperature):
    found = reliability(np.array([[1e4, -1e4], [-1e30, 1e30]]), [0, 0], temperature)
    assert np.isfinite(found.error)
