import pytest
import torch

from bench.attacks import judge
from bench.attacks.goals import together
from bench.attacks.records import Distances, middle
from gauntlet.threat import distances


def record(returned, nudged=None, ours=False):
    nudged = returned if nudged is None else nudged
    counts = {"steps": 1, "batch": 1, "forwards": 1, "backwards": 1, "within_cap": True}
    return Distances(name="x", ours=ours, seconds=(1.0, 3.0, 2.0), returned=returned, nudged=nudged, **counts)


def test_what_does_not_fool_is_infinitely_far(task, linear_step):
    images = task.by_batch(linear_step)
    images[3] = task.x[3]
    found = judge.returned(task.model, task.x, task.y, images)
    assert found.isinf().nonzero().tolist() == [[3]]
    away = distances(task.x, images)["l2"]
    assert torch.equal(found[:3], away[:3])


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf")])
def test_an_image_outside_the_box_does_not_count(task, linear_step, value):
    images = task.by_batch(linear_step)
    images[5, 0, 0, 0] = value
    assert judge.returned(task.model, task.x, task.y, images).isinf().tolist() == [row == 5 for row in range(12)]


def test_a_peers_image_on_the_boundary_is_moved_over_it(task, linear_step):
    images = task.by_batch(linear_step)
    short = task.x + (images - task.x) / 1.05 * 0.998
    shorter = task.x + (images - task.x) / 1.05 * 0.9
    assert judge.returned(task.model, task.x, task.y, short).isinf().all()
    found = judge.nudged(task.model, task.x, task.y, short)
    least = distances(task.x, short)["l2"]
    assert ((found > least) & (found <= judge.NUDGE * least)).all()
    assert judge.nudged(task.model, task.x, task.y, shorter).isinf().all()


def test_broken_means_inside_the_ball(task, linear_step):
    images = task.by_batch(linear_step)
    largest = distances(task.x, images)["linf"]
    eps = float(largest.median()) + 1e-4
    assert torch.equal(judge.broken(task.model, task.x, task.y, images, eps), largest <= eps)


def test_a_failure_makes_the_mean_infinite_and_the_median_only_beyond_half():
    assert record((1.0, 2.0, float("inf"))).mean == float("inf")
    assert record((1.0, 2.0, float("inf"))).median == 2
    assert middle(torch.tensor([1.0, 2.0, torch.inf, torch.inf])) == float("inf")
    assert record((1.0, float("inf"))).failures == 1


def test_a_peer_is_compared_by_its_nudged_images_and_ours_are_not():
    returned, nudged = (1.0, float("inf")), (1.0, 3.0)
    assert record(returned, nudged).mean == 2
    assert record(returned, nudged, ours=True).mean == float("inf")


def test_together_takes_the_best_of_each_image():
    assert together([record((1.0, float("inf"))), record((4.0, 2.0))]) == 1.5


def test_the_time_is_the_median_of_the_rounds():
    assert record((1.0,)).time == 2
