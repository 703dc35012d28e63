"""The ensemble is made of attacks that run, is as strong as the best of them, and says who won."""

import dataclasses

import pytest
import torch

from gauntlet import referee
from gauntlet.attacks import ATTACKS, Ensemble, price
from gauntlet.threat import Threat
from tests.gauntlet.conftest import labels_of

STRONGEST = ATTACKS["strongest"]
MEMBERS = [
    (name, params, Threat(norm, eps))
    for members, eps in ((STRONGEST.nearest, None), (STRONGEST.within, 0.1))
    for norm, named in members.items()
    for name, params in named
]


@pytest.mark.parametrize(("name", "params", "threat"), MEMBERS)
def test_every_member_can_run(name, params, threat):
    referee.check(name, threat, params, targeted=False)


@pytest.fixture
def small(monkeypatch):
    """An ensemble whose members are quick."""
    near = (("superdeepfool", {}), ("fab", {"steps": 30}))
    within = (("fgsm", {}), ("pgd", {"steps": 10}))
    made = dataclasses.replace(STRONGEST, nearest={"l2": near, "l0": (("fmn", {"steps": 20}),)}, within={"l2": within})
    monkeypatch.setitem(ATTACKS, "strongest", made)
    return made


def alone(model, members, images, y, threat):
    return [referee.run(model, name, images, y, threat, params=params) for name, params in members]


def test_the_nearest_success_of_all_members_counts(small, convolutional, images):
    y, threat = labels_of(convolutional, images), Threat("l2")
    one, other = alone(convolutional, small.nearest["l2"], images, y, threat)
    both = referee.run(convolutional, "strongest", images, y, threat)
    assert torch.equal(both.minimal["l2"], torch.minimum(one.minimal["l2"], other.minimal["l2"]))
    assert torch.equal(both.queries, one.queries + other.queries)
    nearer = other.minimal["l2"] < one.minimal["l2"]
    assert both.by == ["fab" if other_won else "superdeepfool" for other_won in nearer]
    assert set(both.by) == {"superdeepfool", "fab"}


def test_within_eps_a_member_sees_what_still_stands(small, convolutional, images):
    y, threat = labels_of(convolutional, images), Threat("l2", 0.06)
    one, other = alone(convolutional, small.within["l2"], images, y, threat)
    both = referee.run(convolutional, "strongest", images, y, threat)
    assert one.success.any()
    assert not one.success.all()
    assert torch.equal(both.queries, torch.where(one.success, one.queries, one.queries + other.queries))
    assert torch.equal(both.success, one.success | other.success)


def test_a_norm_without_members_at_a_fixed_eps_takes_those_that_look_for_the_smallest(small, convolutional, images):
    outcome = referee.run(convolutional, "strongest", images, labels_of(convolutional, images), Threat("l0", 30.0))
    assert outcome.success.any()
    assert float(outcome.l0[outcome.success].max()) <= 30


def test_a_part_meets_the_same_as_the_whole(small, convolutional, images):
    y, threat = labels_of(convolutional, images), Threat("l2", 0.06)
    whole = referee.run(convolutional, "strongest", images, y, threat)
    part = referee.run(convolutional, "strongest", images[8:], y[8:], threat, index=torch.arange(8, len(images)))
    assert torch.equal(part.success, whole.success[8:])
    assert torch.allclose(part.l2, whole.l2[8:], atol=1e-4)


def test_its_price_is_that_of_its_members_on_an_image_that_stands():
    assert isinstance(STRONGEST, Ensemble)
    assert price("strongest", {}) == max(
        sum(price(name, params) for name, params in members) for members in STRONGEST.within.values()
    )
