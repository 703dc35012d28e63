"""Interval bounds in training hold what they say, and agree with the proof of the exported file."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from gauntlet.artifacts import artefact_folders
from gauntlet.artifacts.manifest import ClassifierManifest
from training import classifier_objectives, interval
from training.interval import Box
from training.networks import interval_cnn

from .conftest import train

EPS = 0.1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return interval_cnn((1, 8, 8), 3, (0.3,), (0.5,), filters=(4, 6), features=8)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(6, 1, 8, 8), torch.arange(6) % 3


def interval_bounds(*given: object, **chosen: float) -> float:
    return float(classifier_objectives.interval_bounds(*given, **chosen).detach())  # type: ignore[arg-type]


def test_no_image_of_the_box_leaves_the_worst_logits() -> None:
    net, (x, y) = network(), batch()
    head = net[-1]
    assert isinstance(head, nn.Linear)
    worst = interval.worst_logits(head, interval.propagate(net, x, EPS)[1], y)
    assert torch.equal(worst.gather(1, y[:, None]), torch.zeros(6, 1))
    for seed in range(50):
        torch.manual_seed(seed)
        step = torch.rand(x.shape).round() if seed % 2 else torch.rand(x.shape)
        logits = net((x + EPS * (2 * step - 1)).clamp(0, 1))
        assert (logits - logits.gather(1, y[:, None]) <= worst + 1e-5).all()


def test_without_a_distance_the_loss_is_cross_entropy_and_eps_rises_with_progress() -> None:
    net, (x, y) = network(), batch()
    given = {"eps": EPS, "warm_up": 0.5, "penalty": 0.0}
    losses = [interval_bounds(net, x, y, progress, **given) for progress in (0.0, 0.2, 0.5, 1.0)]
    assert losses[0] == pytest.approx(float(functional.cross_entropy(net(x), y).detach()), rel=1e-5)
    assert losses[0] < losses[1] < losses[2] == losses[3]
    mixed = interval_bounds(net, x, y, 1.0, **given, clean_weight=0.25)
    assert mixed == pytest.approx(0.25 * losses[0] + 0.75 * losses[3], rel=1e-5)
    further = interval_bounds(net, x, y, 1.0, **{**given, "eps": 2 * EPS})
    assert interval_bounds(net, x, y, 1.0, **given, eps_ratio=2.0) == further


def test_the_regularisers_end_with_the_warm_up_and_spare_balanced_intervals() -> None:
    net, (x, y) = network(), batch()
    given = {"eps": EPS, "warm_up": 0.5}
    assert interval_bounds(net, x, y, 0.2, **given, penalty=1.0) > interval_bounds(net, x, y, 0.2, **given, penalty=0.0)
    after = (interval_bounds(net, x, y, 0.6, **given, penalty=penalty) for penalty in (1.0, 0.0))
    assert next(after) == next(after)
    first, sides = Box(torch.zeros(2), torch.ones(2)), torch.tensor([2.0, -2.0])
    assert interval.looseness([first, Box(sides, torch.ones(2))]) == 0
    assert interval.looseness([first, Box(sides, torch.full((2,), 4.0))]) == 0.5  # four times as wide, two are free
    assert interval.looseness([first, Box(torch.tensor([8.0, -2.0]), torch.ones(2))]) == 0.5


@pytest.mark.usefixtures("source")
def test_an_interval_model_says_its_distance_and_what_is_certified_within_it(tmp_path: Path) -> None:
    name = "fashion-mnist-interval"
    assert train(name, tmp_path) == 0
    manifest = artefact_folders.load(tmp_path / "artifacts" / name).manifest
    assert isinstance(manifest, ClassifierManifest)
    assert manifest.interval_eps == EPS
    shares = [manifest.metrics[name].value for name in ("accuracy", "certified_accuracy_linf")]
    assert shares[1] <= shares[0]
    assert manifest.metrics["interval_certified_accuracy_linf"].value <= shares[1]
    assert manifest.metrics["validation_certified_accuracy_linf"].split == "validation"
