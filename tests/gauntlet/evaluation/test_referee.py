"""The referee trusts no attack."""

import numpy as np
import pytest
import torch

from gauntlet.attacks import ATTACKS, Attack
from gauntlet.attacks.base import costs
from gauntlet.errors import Cancelled, InvalidInput
from gauntlet.evaluation import referee
from gauntlet.threat import Threat, distances
from tests import tiny
from tests.gauntlet.conftest import labels_of, opened


@costs(lambda _: 1)
def cheat(model, x, y, threat, *, generator):
    """Leaves both the ball and the box."""
    return x + 7.0


@costs(lambda _: 1)
def idle(model, x, y, threat, *, generator):
    return x


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setitem(ATTACKS, "cheat", Attack(cheat, frozenset({"linf", "l2"})))
    monkeypatch.setitem(ATTACKS, "idle", Attack(idle, frozenset({"linf", "l2"})))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_a_cheating_attack_is_held_to_its_budget(planted, linear, images, norm, eight_bit):
    threat = Threat(norm, 0.05)
    outcome = referee.run(linear, "cheat", images, labels_of(linear, images), threat, eight_bit=eight_bit)
    assert float(threat.size(images, outcome.images).max()) <= 0.05 + 1e-6
    assert float(outcome.images.max()) <= 1


@pytest.mark.parametrize("name", list(ATTACKS))
def test_nothing_to_attack_is_no_success(name, convolutional, images):
    wrong = (labels_of(convolutional, images) + 1) % 3
    for norm in ATTACKS[name].norms:
        outcome = referee.run(convolutional, name, images[:2], wrong[:2], Threat(norm, 0.5))
        assert not outcome.success.any()
        assert torch.equal(outcome.images, images[:2])


def test_a_constant_added_to_all_logits_hides_nothing(tmp_path, images):
    plain, shifted = (opened(tiny.linear(tmp_path / str(add), bias=np.full(3, add, np.float32))) for add in (0, 1000))
    y = labels_of(plain, images)
    for eps in (0.02, 0.05, 0.1):
        found = [referee.run(model, "pgd", images, y, Threat("l2", eps)).success for model in (plain, shifted)]
        assert torch.equal(*found)


def test_what_is_measured_is_what_is_returned(convolutional, images):
    y = labels_of(convolutional, images)
    for eight_bit in (False, True):
        outcome = referee.run(convolutional, "ddn", images, y, Threat("l2"), eight_bit=eight_bit)
        assert outcome.success.all()
        assert torch.equal(convolutional.predict(outcome.images).argmax(dim=1), outcome.adversarial_label)
        one_by_one = torch.cat([convolutional.predict(image[None]) for image in outcome.images]).argmax(dim=1)
        assert torch.equal(one_by_one, outcome.adversarial_label)
        for norm, values in distances(images, outcome.images).items():
            assert torch.equal(getattr(outcome, norm), values)
        if eight_bit:
            assert torch.equal(outcome.images, (outcome.images * 255).round() / 255)
            assert bool((outcome.minimal["l2"] <= outcome.l2 + 1e-3).all())


@pytest.mark.parametrize(
    ("name", "norm", "eps", "params"),
    [
        ("square", "linf", 7.7 / 255, {"queries": 200}),
        ("square", "l2", 0.12, {"queries": 200}),
        ("apgd", "linf", 2.9 / 255, {}),
        ("pgd", "l2", 0.1, {}),
    ],
)
def test_eight_bits_cost_little_of_a_success(name, norm, eps, params, convolutional, images):
    """Also of an attack that stops as soon as it succeeds, where rounding towards the image would undo it."""
    y, threat = labels_of(convolutional, images), Threat(norm, eps)
    free = referee.run(convolutional, name, images, y, threat.on_grid(), params=params).success
    bound = referee.run(convolutional, name, images, y, threat, params=params, eight_bit=True)
    assert int(free.sum()) > 5
    assert int(bound.success.sum()) >= int(free.sum()) - (0 if norm == "linf" else 2)
    assert float(threat.size(images, bound.images).max()) <= eps + 1e-6


def test_eight_bit_success_needs_the_budget(convolutional, images):
    """Rounding to 8 bits may not smuggle an image out of the ball: 0.5 / 255 allows no change of any pixel."""
    outcome = referee.run(
        convolutional, "pgd", images, labels_of(convolutional, images), Threat("linf", 0.5 / 255), eight_bit=True
    )
    assert not outcome.success.any()
    assert torch.equal(outcome.images, images)


def test_a_sample_wrong_from_the_start_is_nobodys_success(linear, images):
    y = labels_of(linear, images)
    wrong = y.clone()
    wrong[::2] = (y[::2] + 1) % 3
    outcome = referee.run(linear, "pgd", images, wrong, Threat("linf", 0.5))
    assert not outcome.success[::2].any()
    assert outcome.success[1::2].all()
    assert not outcome.robust.any()
    assert outcome.queries[::2].tolist() == [0] * 12
    assert torch.equal(outcome.images[::2], images[::2])


def test_an_attack_that_does_nothing_succeeds_nowhere(planted, linear, images):
    outcome = referee.run(linear, "idle", images, labels_of(linear, images), Threat("l2", 1.0))
    assert not outcome.success.any()
    assert outcome.robust.all()


def test_minimum_norm_outside_eps_is_a_failure_with_its_distance(linear, images):
    y = labels_of(linear, images)
    free = referee.run(linear, "ddn", images, y, Threat("l2"))
    eps = float(free.l2.median())
    bounded = referee.run(linear, "ddn", images, y, Threat("l2", eps))
    assert torch.equal(bounded.minimal["l2"], free.minimal["l2"])
    assert torch.equal(bounded.success, free.l2 <= eps + 1e-6)


def test_stop_ends_a_run_in_the_middle(linear, images):
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        referee.run(linear, "ddn", images, labels_of(linear, images), Threat("l2"), check_cancelled=stop)
    assert len(calls) == 5


@pytest.mark.parametrize(
    ("attack", "threat", "params", "field"),
    [
        ("nothing", Threat("l2", 1.0), {}, "attack"),
        ("cw", Threat("linf", 1.0), {}, "norm"),
        ("pgd", Threat("l2"), {}, "eps"),
        ("pgd", Threat("l2", 1.0), {"steps": 0}, "params.steps"),
        ("pgd", Threat("l2", 1.0), {"speed": 1}, "params.speed"),
        ("pgd", Threat("l2", 1.0), {"steps": "many"}, "params.steps"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(linear, images, attack, threat, params, field):
    with pytest.raises(InvalidInput) as error:
        referee.run(linear, attack, images, labels_of(linear, images), threat, params=params)
    assert error.value.field == field
