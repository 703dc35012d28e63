"""The ensemble is made of attacks that run, is as strong as the best of them, and says who won."""

import dataclasses

import pytest
import torch

from gauntlet.attacks import ATTACKS, Ensemble, price
from gauntlet.evaluation import ensemble, referee
from gauntlet.threat import Threat
from tests.gauntlet.conftest import labels_of

STRONGEST = ATTACKS["strongest"]
MEMBERS = [
    (name, params, Threat(norm, eps), targeted)
    for members, eps, targeted in (
        (STRONGEST.nearest, None, False),
        (STRONGEST.nearest, None, True),
        (STRONGEST.within, 0.1, False),
        (STRONGEST.aimed, 0.1, True),
    )
    for norm, named in members.items()
    for name, params in named
]


@pytest.mark.parametrize(("name", "params", "threat", "targeted"), MEMBERS)
def test_every_member_can_run(name, params, threat, targeted):
    referee.check(name, threat, params, targeted=targeted)


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


def test_within_eps_a_member_sees_what_still_stands(small, convolutional, images, monkeypatch):
    monkeypatch.setattr(ensemble, "NEAR", 0.0)
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
        sum(price(name, params) for name, params in (*members, STRONGEST.last))
        for members in (*STRONGEST.within.values(), *STRONGEST.aimed.values())
    )


def test_what_came_near_is_tried_again_alone(convolutional, images, monkeypatch):
    """The members stop just short of an image; it is met once more, by itself, and what stood far off is not."""
    y = labels_of(convolutional, images)
    exact = referee.run(convolutional, "fmn", images, y, Threat("linf"), params={"steps": 300}).minimal["linf"]
    eps = 1.01 * float(exact.median())
    short = {"steps": 1, "relative_step": 0.98}
    weak = (("pgd", short),)
    alone = []
    monkeypatch.setitem(ATTACKS, "strongest", dataclasses.replace(STRONGEST, within={"linf": weak}, last=("apgd", {})))
    before = referee.run(convolutional, "pgd", images, y, Threat("linf", eps), params=short)
    run = referee.run

    def heard(model, name, x, *arguments, **options):
        alone.append((name, options["index"].tolist()))
        return run(model, name, x, *arguments, **options)

    monkeypatch.setattr(referee, "run", heard)
    after = run(convolutional, "strongest", images, y, Threat("linf", eps))
    near = (before.robust & (before.lacking < ensemble.NEAR)).nonzero().squeeze(1).tolist()
    assert 0 < len(near) < int(before.robust.sum())
    assert alone == [("pgd", list(range(len(images)))), *(("apgd", [row]) for row in near)]
    assert int(after.success.sum()) > int(before.success.sum())


def test_it_reaches_a_chosen_class(convolutional, images):
    x = images[:6]
    y = labels_of(convolutional, x)
    for eps in (None, 0.5):
        found = referee.run(convolutional, "strongest", x, y, Threat("linf", eps), target=(y + 1) % 3)
        single = referee.run(convolutional, "fmn", x, y, Threat("linf"), target=(y + 1) % 3)
        assert torch.equal(found.success, found.adversarial_label == (y + 1) % 3)
        assert int(found.success.sum()) >= int((single.minimal["linf"] <= (eps or 1.0)).sum()) > 0
