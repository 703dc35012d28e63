import numpy as np
import pytest

from gauntlet.report import statistics


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # by hand, from Wilson's formula with z = 1.96
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (950, 1000, 0.9347, 0.9619),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(k, n, low, high):
    assert statistics.wilson(k, n) == pytest.approx((low, high), abs=2e-4)


def test_a_failed_attack_counts_as_infinite_in_the_median():
    assert statistics.median(np.array([1.0, 2.0, np.inf])) == 2.0
    assert statistics.median(np.array([1.0, np.inf, np.inf])) is None
    assert statistics.median(np.array([1.0, 3.0])) == 2.0
    assert statistics.median(np.array([1.0, np.inf])) is None
    assert statistics.median(np.array([])) is None


def test_distribution_counts_failures():
    spread = statistics.distribution(np.array([1.0, 2.0, 3.0, np.inf]))
    assert (spread.n, spread.failed, spread.median, spread.q95) == (4, 1, 2.5, None)


def test_rates_have_their_own_denominator():
    hits, among = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert statistics.rate(hits).value == 0.5
    assert (statistics.rate(hits, among).k, statistics.rate(hits, among).n) == (1, 2)
    assert statistics.rate(hits, np.zeros(4, bool)).value is None


def test_curves_by_hand():
    robust = statistics.robust_curve(np.array([0.0, 0.5, 1.0, np.inf]), [0.0, 0.5, 2.0])
    assert [point.rate.k for point in robust] == [3, 2, 1]
