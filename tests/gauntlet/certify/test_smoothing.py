"""Smoothing a linear classifier of two classes gives the same classifier, whose distances are known exactly."""

import pytest
import torch
from torch import Tensor

from gauntlet.certify.smoothing import ABSTAINED, certify, lower_bound
from gauntlet.certify.smoothing_parameters import Smoothing, SmoothingAsked
from gauntlet.errors import InvalidInput

DIRECTION = torch.ones(16) / 4  # of length one: the first logit is the distance to the boundary


def halfspace(x: Tensor) -> Tensor:
    return torch.stack((x.flatten(1) @ DIRECTION, torch.zeros(len(x))), dim=1)


def at(*distances: float) -> Tensor:
    return (torch.tensor(distances)[:, None] * DIRECTION).view(-1, 1, 4, 4)


def test_radii_are_close_to_the_exact_distance_and_never_beyond() -> None:
    exact = [0.05, 0.2, 0.4, -0.3]
    found = certify(halfspace, at(*exact), Smoothing(sigma=0.25, samples=5_000))
    assert found.label.tolist() == [0, 0, 0, 1]
    for radius, distance in zip(found.radius.tolist(), exact, strict=True):
        assert 0.85 * abs(distance) - 0.02 < radius < abs(distance)


def test_on_the_boundary_it_abstains() -> None:
    found = certify(halfspace, at(0.0), Smoothing(sigma=0.25))
    assert found.label.tolist() == [ABSTAINED]
    assert found.radius.tolist() == [0.0]


def test_a_part_meets_the_same_noise_as_the_whole() -> None:
    x, smoothing = at(0.1, 0.2, 0.3), Smoothing(sigma=0.25, samples=500)
    whole, part = certify(halfspace, x, smoothing), certify(halfspace, x[1:], smoothing, first_index=1)
    assert torch.equal(whole.radius[1:], part.radius)
    assert not torch.equal(whole.radius, certify(halfspace, x, smoothing, seed=1).radius)


@pytest.mark.parametrize(("hits", "draws"), [(0, 10), (7, 10), (10, 10), (9_900, 10_000)])
def test_the_bound_is_that_of_the_binomial_tail(hits: int, draws: int) -> None:
    bound = lower_bound(hits, draws, 0.001)
    if hits:
        tail = torch.distributions.Binomial(draws, torch.tensor(bound, dtype=torch.float64))
        above = tail.log_prob(torch.arange(hits, draws + 1, dtype=torch.float64)).logsumexp(0).exp()
        assert float(above) == pytest.approx(0.001, rel=1e-6)
    else:
        assert bound == 0


def test_a_stop_ends_it() -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        certify(halfspace, at(0.1), Smoothing(sigma=0.25), check_cancelled=stop)


def test_sigma_is_what_is_asked_for_or_else_what_the_model_was_trained_with() -> None:
    assert SmoothingAsked(samples=50).of(0.5, "model") == Smoothing(sigma=0.5, samples=50)
    assert SmoothingAsked(sigma=0.1).of(0.5, "model") == Smoothing(sigma=0.1)
    with pytest.raises(InvalidInput, match="say which sigma") as refused:
        SmoothingAsked().of(None, "model")
    assert refused.value.field == "smoothing.sigma"
