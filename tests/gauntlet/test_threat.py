import pytest
import torch

from gauntlet.errors import InvalidInput
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.threat import NORMS, Threat, distances, keep_largest, l2, onto_plane, shrink

X = KeyedRandom.span(0, 0, 50).uniform(0, (3, 6, 6))
FAR = X + 2 * KeyedRandom.span(1, 0, 50).normal(0, (3, 6, 6))


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 0.3), ("l1", 0.3), ("l0", 3)])
def test_projection_lands_in_the_ball_and_the_box_and_is_idempotent(norm, eps):
    threat = Threat(norm, eps)
    once = threat.project(X, FAR)
    assert float(threat.size(X, once).max()) <= eps + 1e-6
    assert 0 <= float(once.min()) <= float(once.max()) <= 1
    assert torch.allclose(threat.project(X, once), once, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_leaves_what_is_inside_alone(norm):
    threat = Threat(norm, 1e3)
    inside = FAR.clamp(0, 1)
    assert torch.allclose(threat.project(X, inside), inside, atol=1e-5)


def test_an_unbounded_threat_is_the_box():
    assert torch.equal(Threat("l2").project(X, FAR), FAR.clamp(0, 1))


def test_l1_projection_is_the_nearest_point_of_the_ball():
    delta = torch.tensor([[[[3.0, -1.0, 0.5]]]])
    assert torch.allclose(shrink(delta, 2.0), torch.tensor([[[[2.0, 0.0, 0.0]]]]))
    assert torch.allclose(shrink(delta, 3.0), torch.tensor([[[[2.5, -0.5, 0.0]]]]))
    assert torch.equal(shrink(delta, torch.tensor([4.5])), delta)


def test_l0_projection_keeps_the_pixels_that_moved_farthest():
    delta = torch.zeros(2, 3, 1, 3)
    delta[:, 0, 0] = torch.tensor([0.1, 0.3, 0.2])
    delta[:, 1, 0] = torch.tensor([0.4, 0.0, 0.2])
    kept = keep_largest(delta, torch.tensor([1, 2]))
    assert (kept != 0).any(dim=1).flatten(1).tolist() == [[True, False, False], [True, True, False]]
    assert torch.equal(kept[0, :, 0, 0], delta[0, :, 0, 0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_samples_stay_inside_and_fill_the_ball(norm):
    keys = KeyedRandom.span(3, 0, 400)
    grey = torch.full((400, 1, 4, 4), 0.5)
    points = Threat(norm, 0.2).sample(grey, keys.normal(0, (1, 4, 4)), keys.uniform(1))
    sizes = Threat(norm, 0.2).size(grey, points)
    assert float(sizes.max()) <= 0.2 + 1e-6
    assert float(sizes.median()) > 0.18  # most of a ball of 16 dimensions lies near its surface


def test_steepest_step_has_size_one_and_climbs():
    for norm in ("linf", "l2"):
        gradient = KeyedRandom.span(0, 0, 10).normal(0, (1, 4, 4))
        step = Threat(norm, 1.0).steepest(gradient)
        assert Threat(norm).size(torch.zeros_like(step), step).tolist() == pytest.approx([1.0] * 10)
        assert bool(((step * gradient).flatten(1).sum(1) > 0).all())


def test_distances_by_hand():
    x = torch.zeros(1, 3, 1, 2)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0], x_adv[0, 1, 0, 0] = 0.3, 0.4  # two channels of one pixel
    assert {key: pytest.approx(float(value), rel=1e-6) for key, value in distances(x, x_adv).items()} == {
        "l2": 0.5,
        "linf": 0.4,
        "l1": 0.7,
        "l0": 1.0,
    }


@pytest.mark.parametrize(("norm", "eps"), [("l2", -0.1), ("linf", float("nan")), ("l2", float("inf")), ("l3", 1.0)])
def test_nonsense_is_refused(norm, eps):
    with pytest.raises(InvalidInput):
        Threat(norm, eps)


@pytest.mark.parametrize("norm", NORMS)
def test_no_image_of_the_threat_leaves_its_enclosing_l2_ball(norm):
    shape, eps = (3, 4, 4), {"linf": 0.2, "l2": 0.7, "l1": 1.7, "l0": 5.0}[norm]
    threat = Threat(norm, eps)
    x = torch.zeros(200, *shape)
    x_adv = threat.project(x, 3 * torch.rand(200, *shape, generator=torch.Generator().manual_seed(0)) ** 8)
    x_adv[0] = threat.project(x[:1], torch.ones(1, *shape))[0]
    longest = float(l2(x_adv - x).max())
    assert longest <= threat.enclosing_l2(shape) * (1 + 1e-6)
    assert Threat(norm, 0.0).enclosing_l2(shape) == 0


def test_onto_plane_is_the_nearest_point_of_plane_and_box():
    """It lies on both, and no other point there that random moves lead to is nearer."""
    normal = KeyedRandom.span(2, 0, 50).normal(0, (3, 6, 6))
    delta = 0.3 * KeyedRandom.span(3, 0, 50).normal(0, (3, 6, 6))
    level = (normal * (FAR.clamp(0, 1) - X)).flatten(1).sum(1)  # of a point in the box, so that the two meet
    found = onto_plane(delta, normal, level, X)
    assert float(((normal * found).flatten(1).sum(1) - level).abs().max()) < 1e-3 * float(
        normal.flatten(1).norm(dim=1).min()
    )
    assert float((X + found).min()) >= -1e-6
    assert float((X + found).max()) <= 1 + 1e-6
    for draw in range(20):
        other = (found + 0.1 * KeyedRandom.span(4, 0, 50).normal(draw, (3, 6, 6))).clamp(-X, 1 - X)
        other = onto_plane(other, normal, level, X)
        assert bool(((other - delta).flatten(1).norm(dim=1) >= (found - delta).flatten(1).norm(dim=1) - 2e-3).all())
