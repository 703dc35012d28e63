"""A budget ends an attack early, exactly, and loses nothing that was found."""

import pytest
import torch

from gauntlet.evaluation import referee
from gauntlet.evaluation.query_counter import Budget
from gauntlet.threat import Threat
from tests.gauntlet.conftest import labels_of


def attack(model, x, name="ddn", eps=None, norm="l2", **options):
    return referee.run(model, name, x, labels_of(model, x), Threat(norm, eps), **options)


@pytest.mark.parametrize("queries", [1, 5, 20])
def test_no_image_is_evaluated_more_often_than_allowed(convolutional, images, queries):
    outcome = attack(convolutional, images, budget=Budget(queries=queries), params={"steps": 60})
    assert int(outcome.queries.max()) == queries
    assert not outcome.finished.any()


def test_what_was_found_before_the_end_is_returned(convolutional, images):
    whole = attack(convolutional, images, params={"steps": 60})
    early = attack(convolutional, images, params={"steps": 60}, budget=Budget(queries=30))
    assert early.success.sum() >= 0.9 * whole.success.sum()
    both = early.success & whole.success
    assert bool((early.l2[both] >= whole.l2[both] - 1e-4).all())


def test_a_fixed_budget_keeps_only_what_lies_inside_it(convolutional, images):
    outcome = attack(convolutional, images, "cw", eps=0.5, budget=Budget(queries=100))
    assert outcome.success.any()
    assert float(outcome.l2[outcome.success].max()) <= 0.5 + 1e-6


def test_a_budget_that_is_large_enough_changes_nothing(convolutional, images):
    free, bound = (
        attack(convolutional, images, budget=budget) for budget in (None, Budget(seconds=600, queries=10_000))
    )
    assert torch.equal(free.images, bound.images)
    assert torch.equal(free.queries, bound.queries)
    assert bound.finished.all()


def test_no_time_means_no_evaluation(convolutional, images):
    outcome = attack(convolutional, images, budget=Budget(seconds=0))
    assert int(outcome.queries.sum()) == 0
    assert torch.equal(outcome.images, images)


def test_the_ensemble_shares_one_budget(convolutional, images):
    y, threat = labels_of(convolutional, images), Threat("linf", 0.002)
    found = referee.run(convolutional, "strongest", images, y, threat, budget=Budget(queries=150))
    standing = ~found.success
    assert standing.any()
    assert found.queries[standing].tolist() == [150] * int(standing.sum())
    assert not found.finished[standing].any()
