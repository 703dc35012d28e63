"""Every attack keeps its promises, and on a linear model, where the minimal distance is known, is strong enough."""

import copy

import numpy as np
import pytest
import torch

from gauntlet.attacks import ATTACKS, Attack
from gauntlet.attacks.base import shortfall
from gauntlet.evaluation import referee
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import Threat
from tests import tiny
from tests.gauntlet.conftest import exact_distances, labels_of, opened

EPS = {"linf": 0.03, "l2": 0.12, "l1": 1.0, "l0": 6.0}
LARGE = {"linf": 0.5, "l2": 0.5, "l1": 5.0, "l0": 30.0}
FAST = {
    "alma": {"steps": 60},
    "apgd": {"steps": 40},
    "apgd-t": {"steps": 40},
    "cw": {"searches": 4, "steps": 60},
    "cw-linf": {"steps": 100},
    "ddn": {"steps": 60},
    "fab": {"steps": 30},
    "fmn": {"steps": 30},
    "gaussian": {"draws": 100},
    "hopskipjump": {"queries": 400},
    "square": {"queries": 200},
    "superdeepfool": {"steps": 20},
}
FEW = 8  # steps that show what holds after any number of them
SHORT = {
    name: {
        key: min(value, {"queries": 12 * FEW, "draws": FEW, "searches": 2}.get(key, FEW))
        for key, value in params.items()
    }
    for name, params in FAST.items()
}
REPEATS = ("steps", "restarts", "searches", "draws", "targets", "queries")
BASELINES = {"gaussian", "noise"}
CASES = [
    (name, norm) for name, attack in ATTACKS.items() if isinstance(attack, Attack) for norm in sorted(attack.norms)
]
MINIMUM_NORM = [(name, norm) for name, norm in CASES if ATTACKS[name].minimum_norm]
FIXED = [(name, norm) for name, norm in CASES if not ATTACKS[name].minimum_norm]


def attack(model, name, norm, x, y, eps="default", **options):
    eps = EPS[norm] if eps == "default" else eps
    params = {**FAST.get(name, {}), **options.pop("params", {})}
    return referee.run(model, name, x, y, Threat(norm, eps), params=params, **options)


LAST_BIT = 2**-23  # two float32 between 0.5 and 1 that are neighbours are half of it apart


def exact(model):
    """The same with a twin that computes in float64: an attack that walks along the boundary and knows only labels
    goes another way once the rounding, which depends on the size of the batch, turns a single answer round."""
    double, twice = copy.deepcopy(model.twin).double(), copy.copy(model)
    twice.twin = lambda x: double(x.double()).float()
    return twice


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_stays_within_eps_and_the_box(name, norm, convolutional, images):
    outcome = attack(convolutional, name, norm, images, labels_of(convolutional, images))
    assert outcome.success.any()
    assert float(getattr(outcome, norm)[outcome.success].max()) <= EPS[norm] + 1e-6
    assert 0 <= float(outcome.images.min()) <= float(outcome.images.max()) <= 1


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_eps_zero_is_a_no_op(name, norm, convolutional, images):
    y = labels_of(convolutional, images)
    outcome = attack(convolutional, name, norm, images, y, eps=0.0, params=SHORT.get(name, {}))
    assert not outcome.success.any()
    assert torch.equal(outcome.images, images)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_one_step_moves(name, norm, convolutional, images):
    repeats = {key: 1 for key in REPEATS if key in ATTACKS[name].params.model_fields}
    big = {"step_size": 0.5, "initial_c": 100.0} if name == "cw" else {}
    y = labels_of(convolutional, images)
    outcome = referee.run(convolutional, name, images, y, Threat(norm, LARGE[norm]), params=repeats | big)
    assert float(outcome.l2.max()) > 0


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_same_seed_same_result(name, norm, convolutional, images):
    y = labels_of(convolutional, images)
    few = SHORT.get(name, {})
    first, second = (attack(convolutional, name, norm, images, y, seed=5, params=few).images for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_batch_of_n_is_n_batches_of_one(name, norm, convolutional, images):
    if ATTACKS[name].access == "label":
        convolutional = exact(convolutional)
    x = images[:6]
    y = labels_of(convolutional, x)
    restarts = {"restarts": 2} if "restarts" in ATTACKS[name].params.model_fields else {}
    restarts |= SHORT.get(name, {})
    whole = attack(convolutional, name, norm, x, y, params=restarts)
    for i in (0, 2, 5):
        one = attack(convolutional, name, norm, x[i : i + 1], y[i : i + 1], index=torch.tensor([i]), params=restarts)
        assert bool(one.success[0]) == bool(whole.success[i])
        assert float(one.l2[0]) == pytest.approx(float(whole.l2[i]), abs=1e-4)
        assert int(one.queries[0]) == int(whole.queries[i])


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] in {"apgd", "fmn", "pgd", "square"}])
def test_without_rounding_no_batch_changes_a_step(name, norm, convolutional, images):
    """At the margin, too: what is drawn and which steps are taken depend on the image alone. In float32 the last bit
    of a logit depends on the size of the batch, and an image that is won by less may be lost. On some processors the
    last bit of a float64 sum does too."""
    images = images[:6]
    model, y = exact(convolutional), labels_of(convolutional, images)
    eps = float(attack(convolutional, name, norm, images, y).l2.median()) if norm == "l2" else EPS[norm]
    whole = attack(model, name, norm, images, y, eps=eps)
    for size in (1, 3):
        for first in range(0, 3, size):
            rows = torch.arange(first, first + size)
            part = attack(model, name, norm, images[rows], y[rows], eps=eps, index=rows)
            assert torch.equal(part.success, whole.success[rows])
            assert torch.equal(part.queries, whole.queries[rows])
            assert torch.allclose(part.images, whole.images[rows], rtol=0, atol=LAST_BIT)


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A linear model whose third class is out of reach: every ascent direction is the best one."""
    return opened(tiny.linear(tmp_path_factory.mktemp("models") / "two", weight=weights(), bias=biased(0)))


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory):
    """The same with so much in favour of the first class that several pixels have to go as far as the box lets them."""
    return opened(tiny.linear(tmp_path_factory.mktemp("models") / "lopsided", weight=weights(), bias=biased(6)))


def weights():
    weight = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    return weight - weight.mean(axis=1, keepdims=True)


def biased(first):
    return np.array([first, 0, -1e3], np.float32)


@pytest.mark.parametrize(
    ("name", "norm", "tolerance", "params"),
    [
        ("alma", "l1", 1.03, {"steps": 400}),
        ("alma", "l2", 1.03, {"steps": 200}),
        ("cw", "l2", 1.02, {"searches": 6, "steps": 200}),
        ("cw-linf", "linf", 1.03, {}),
        ("ddn", "l2", 1.03, {"steps": 200}),
        ("fab", "l2", 1.004, {}),
        ("fmn", "l0", 1.0001, {}),
        ("fmn", "l1", 1.01, {}),
        ("fmn", "l2", 1.004, {}),
        ("fmn", "linf", 1.004, {}),
        ("hopskipjump", "l2", 1.06, {"queries": 2000}),  # what random probes can reach in so many queries
        ("hopskipjump", "linf", 1.12, {"queries": 2000}),
        ("superdeepfool", "l2", 1.002, {}),
    ],
)
def test_minimum_norm_attacks_reach_the_exact_distance(name, norm, tolerance, params, two_classes, images):
    y = labels_of(two_classes, images)
    exact = exact_distances(two_classes, images, y, norm)
    outcome = attack(two_classes, name, norm, images, y, eps=None, params=params)
    ratio = outcome.minimal[norm] / exact
    assert outcome.success.all()
    assert float(ratio.min()) > 0.9999
    assert float(ratio.median()) < tolerance


def test_cw_reaches_it_from_black_and_white_too(two_classes, images):
    extreme = images.round()  # where the change of variables hardly lets a pixel go
    y = labels_of(two_classes, extreme)
    long = {"steps": 1000}
    nearest = attack(two_classes, "fmn", "l2", extreme, y, eps=None, params=long).minimal["l2"]
    found = attack(two_classes, "cw", "l2", extreme, y, eps=None, params={"searches": 6, "steps": 200}).minimal["l2"]
    assert float((found / nearest).median()) < 1.02


@pytest.mark.parametrize(("norm", "tolerance"), [("l1", 1.02), ("l0", 1.0)])
def test_fmn_fills_one_pixel_after_the_other(norm, tolerance, lopsided, images):
    y = labels_of(lopsided, images)
    exact = exact_distances(lopsided, images, y, norm)
    assert float(exact.min()) > {"l1": 1, "l0": 2}[norm]
    found = attack(lopsided, "fmn", norm, images, y, eps=None, params={"steps": 80}).minimal[norm]
    assert float((found / exact).min()) > 0.9999
    assert float((found / exact).median()) <= tolerance


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("mifgsm", "linf"),
        ("mifgsm", "l2"),
        ("fgsm", "linf"),
        ("fgsm", "l2"),
        ("pgd", "linf"),
        ("pgd", "l2"),
        ("apgd", "linf"),
        ("apgd", "l2"),
        ("apgd-t", "linf"),
        ("apgd-t", "l2"),
    ],
)
def test_gradient_attacks_succeed_exactly_where_success_is_possible(name, norm, two_classes, images):
    y = labels_of(two_classes, images)
    exact = exact_distances(two_classes, images, y, norm)
    eps = 1.02 * float(exact.median())
    outcome = attack(two_classes, name, norm, images, y, eps=eps)
    assert torch.equal(outcome.success, exact < eps)
    assert not attack(two_classes, name, norm, images, y, eps=0.999 * float(exact.min())).success.any()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("fgsm", "linf"),
        ("fgsm", "l2"),
        ("pgd", "linf"),
        ("pgd", "l2"),
        ("apgd", "linf"),
        ("apgd", "l2"),
        ("apgd-t", "linf"),
        ("apgd-t", "l2"),
        ("cw-linf", "linf"),
        ("fab", "l2"),
        ("fmn", "linf"),
        ("fmn", "l2"),
        ("mifgsm", "linf"),
        ("mifgsm", "l2"),
        ("superdeepfool", "l2"),
        ("square", "linf"),
        ("square", "l2"),
    ],
)
def test_success_does_not_depend_on_the_scale_of_the_logits(name, norm, scale, images, tmp_path):
    """Large logits hide gradients from plain cross-entropy, small ones spread them over all classes."""
    weight = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    weight -= weight.mean(axis=1, keepdims=True)
    plain = opened(tiny.linear(tmp_path / "plain", weight=weight))
    scaled = opened(tiny.linear(tmp_path / "scaled", weight=weight * np.float32(scale)))
    y = labels_of(plain, images)
    eps = 1.1 * float(exact_distances(plain, images, y, norm).median())
    before, after = (int(attack(model, name, norm, images, y, eps=eps).success.sum()) for model in (plain, scaled))
    assert before > 5
    assert after >= before - 1


def test_ddn_finds_small_distances(two_classes, images):
    """An image close to the boundary: the schedule of the norm must reach that far down."""
    y = labels_of(two_classes, images)
    found = attack(two_classes, "ddn", "l2", images, y, eps=None, params={"steps": 100})
    near = images + (1 - 1e-2) * (found.images - images)  # a hundredth of the way is left
    near = near[labels_of(two_classes, near) == y]
    label = labels_of(two_classes, near)
    exact = exact_distances(two_classes, near, label, "l2")
    again = attack(two_classes, "ddn", "l2", near, label, eps=None, params={"steps": 100})
    assert float(exact.median()) < 1e-2
    assert float((again.minimal["l2"] / exact).median()) < 1.15  # a success must win by more than this model rounds


def test_pgd_beats_fgsm_and_both_beat_noise(convolutional, images):
    y = labels_of(convolutional, images)
    rates = [
        float(attack(convolutional, name, "linf", images, y, eps=0.02).success.float().mean())
        for name in ("noise", "fgsm", "pgd")
    ]
    assert rates[0] < rates[1] <= rates[2]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_stands_between_noise_and_pgd(norm, convolutional, images):
    y = labels_of(convolutional, images)
    eps = {"linf": 0.02, "l2": 0.12}[norm]
    rates = [
        float(attack(convolutional, name, norm, images, y, eps=eps, params=params).success.float().mean())
        for name, params in (("noise", {"draws": 500}), ("square", {"queries": 500}), ("pgd", {}))
    ]
    assert rates[0] + 0.2 < rates[1] <= rates[2] + 0.05
    assert rates[1] > 0.7 * rates[2]


def test_square_uses_the_whole_budget(convolutional, images):
    """Far from the edges of the box nothing is clipped: each pixel moves by eps in Linf, the image by eps in L2."""
    y = labels_of(convolutional, images)
    assert torch.allclose(
        (attack(convolutional, "square", "linf", images, y).images - images).abs(), torch.tensor(0.03)
    )
    outcome = attack(convolutional, "square", "l2", images, y)
    assert torch.allclose(outcome.l2, torch.tensor(0.12).double(), atol=1e-6)


class _Bare:
    """The twin as an attack sees it, with something done to what goes in or comes out."""

    def __init__(self, twin, before=lambda x: x, after=lambda logits: logits):
        self.twin, self.before, self.after = twin, before, after

    def __call__(self, x):
        return self.after(self.twin(self.before(x)))

    def at(self, rows):
        return self


class _NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise PermissionError("asked for a gradient")


def bare(name, norm, model, x, y, **changes):
    eps = None if ATTACKS[name].minimum_norm else EPS[norm]
    keys = KeyedRandom.span(0, 0, len(x))
    return ATTACKS[name].run(
        _Bare(model.twin, **changes), x, y, Threat(norm, eps), generator=keys, **FAST.get(name, {})
    )


def one_hot(logits):
    return torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if ATTACKS[case[0]].access == "label"])
def test_label_attacks_never_see_a_logit(name, norm, convolutional, images):
    y = labels_of(convolutional, images)
    full = bare(name, norm, convolutional, images, y)
    assert not torch.equal(full, images)
    assert torch.equal(full, bare(name, norm, convolutional, images, y, after=one_hot))


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_only_gradient_attacks_ask_for_a_gradient(name, norm, convolutional, images):
    y = labels_of(convolutional, images)
    if ATTACKS[name].access == "gradient":
        with pytest.raises(PermissionError):
            bare(name, norm, convolutional, images, y, before=_NoWayBack.apply)
    else:
        found = bare(name, norm, convolutional, images.clone().requires_grad_(), y, before=_NoWayBack.apply)
        assert not torch.equal(found, images)


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if ATTACKS[case[0]].access != "gradient"])
@pytest.mark.parametrize("repeats", [1, 300])
def test_black_box_attacks_are_priced_by_their_queries(name, norm, repeats, convolutional, images):
    """All is spent where nothing succeeds; a round of probes that no longer fits is left out."""
    params = {key: repeats for key in REPEATS if key in ATTACKS[name].params.model_fields}
    outcome = attack(convolutional, name, norm, images, labels_of(convolutional, images), eps=1e-4, params=params)
    price = ATTACKS[name].gradient_steps(ATTACKS[name].params(**params))
    assert price == repeats
    assert int(outcome.queries.max()) <= price
    assert int(outcome.queries.min()) >= (price - 40 if ATTACKS[name].minimum_norm else price)


def test_hopskipjump_without_a_start_leaves_the_image(two_classes, images):
    """No image is of the third class: the tries end, and a failure is as far as can be."""
    target = torch.full((len(images),), 2)
    outcome = attack(two_classes, "hopskipjump", "l2", images, labels_of(two_classes, images), eps=None, target=target)
    assert not outcome.success.any()
    assert outcome.minimal["l2"].isinf().all()
    assert torch.equal(outcome.images, images)
    assert set(outcome.queries.tolist()) == {100}


@pytest.mark.parametrize("name", [name for name, entry in ATTACKS.items() if entry.targeted])
def test_targeted_attacks_reach_their_target(name, linear, images):
    y = labels_of(linear, images)
    target = (y + 1) % 3
    norm = min(ATTACKS[name].norms)
    outcome = attack(linear, name, norm, images, y, eps=None if ATTACKS[name].minimum_norm else 0.3, target=target)
    assert torch.equal(outcome.success, outcome.adversarial_label == target)
    assert float(outcome.success.float().mean()) > (0.1 if name in BASELINES else 0.9)


def test_cw_with_confidence_wins_by_kappa(linear, images):
    y = labels_of(linear, images)
    outcome = attack(linear, "cw", "l2", images, y, eps=None, params={"kappa": 2.0, "searches": 6, "steps": 200})
    assert outcome.success.all()
    assert float(shortfall(linear.predict(outcome.images), y, targeted=False).max()) <= -2.0 + 1e-3


@pytest.mark.parametrize("steps", [10, 20, 40])
def test_cw_crosses_the_box_in_few_steps(steps, two_classes, images):
    """From black and white, where its change of variables moves a pixel least."""
    extreme = images.round()
    y = labels_of(two_classes, extreme)
    outcome = attack(two_classes, "cw", "l2", extreme, y, eps=None, params={"searches": 6, "steps": steps})
    assert outcome.success.all()


def test_cw_starts_at_the_c_that_first_order_asks_for(linear, images):
    """Where first order is exact most samples need one search, and none needs three."""
    y = labels_of(linear, images)
    queries = attack(linear, "cw", "l2", images, y, eps=None, params={"searches": 6, "steps": 100}).queries
    assert float(queries.double().median()) <= 1 + 101
    assert int(queries.max()) <= 1 + 2 * 101


def test_cw_drops_finished_samples(linear, images):
    """Early stop is per sample: samples need different numbers of queries, all fewer than the most allowed."""
    queries = attack(linear, "cw", "l2", images, labels_of(linear, images), eps=None, params={"steps": 200}).queries
    assert len(set(queries.tolist())) > 1
    assert int(queries.max()) < 4 * 200


def test_cw_linf_drops_finished_samples(linear, images):
    queries = attack(
        linear, "cw-linf", "linf", images, labels_of(linear, images), eps=None, params={"steps": 500}
    ).queries
    assert len(set(queries.tolist())) > 1
    assert int(queries.max()) < 500


@pytest.mark.parametrize("name", ["fab", "fmn"])
def test_a_class_that_proves_far_is_given_up(name, linear, images):
    """With two other classes some samples pay for one only, and no sample pays for more than two."""
    queries = attack(linear, name, "l2", images, labels_of(linear, images), eps=None, params={"steps": 50}).queries
    assert len(set(queries.tolist())) > 1
    assert int(queries.max()) <= 3 + 2 * 51 + 1


def test_superdeepfool_stops_where_its_cycle_no_longer_pays(linear, images):
    """On a linear model at once: few queries beside those that it may use."""
    queries = attack(linear, "superdeepfool", "l2", images, labels_of(linear, images), eps=None).queries
    assert int(queries.max()) <= 25


def test_mifgsm_goes_on_after_its_first_success(linear, images):
    """Made to transfer: deeper than the first success of attacks that stop there."""
    y = labels_of(linear, images)
    eps = 2 * float(exact_distances(linear, images, y, "linf").max())
    deep, shallow = (attack(linear, name, "linf", images, y, eps=eps) for name in ("mifgsm", "apgd"))
    assert deep.success.all()
    assert set(deep.queries.tolist()) == {12}
    lacking = [shortfall(linear.predict(found.images), y, targeted=False).mean() for found in (deep, shallow)]
    assert float(lacking[0]) < float(lacking[1])


def test_parameters_come_from_the_signature():
    schema = ATTACKS["pgd"].params.model_json_schema()
    assert schema["properties"]["steps"]["minimum"] == 1
    assert schema["additionalProperties"] is False
    assert ATTACKS["cw"].gradient_steps(ATTACKS["cw"].params(searches=3, steps=7)) == 21
    assert all("arXiv" in entry.summary for name, entry in ATTACKS.items() if name not in BASELINES)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_no_parameter_makes_an_attack_cost_more_than_it_declares(name, norm, convolutional, images):
    """Each whole number in turn is raised; a few evaluations test the ends, one in twenty steps."""
    fields = ATTACKS[name].params.model_fields
    whole = [field for field, info in fields.items() if info.annotation is int]
    small = {field: value for field, value in {"steps": 20, "draws": 20, "queries": 50}.items() if field in fields}
    x = images[:2]
    for field in whole:
        params = small | {field: 3 * small.get(field, 1)}
        outcome = referee.run(convolutional, name, x, labels_of(convolutional, x), Threat(norm, 1e-4), params=params)
        declared = ATTACKS[name].gradient_steps(ATTACKS[name].params(**params))
        assert int(outcome.queries.max()) <= 1.05 * declared + 12, (field, params)


def test_an_attack_that_does_not_declare_its_cost_cannot_be_registered():
    def undeclared(model, x, y, threat, *, generator):
        return x

    with pytest.raises(TypeError, match="undeclared does not declare its cost"):
        Attack(undeclared, frozenset({"l2"}))
