"""Each fault is planted in a linear model, whose robustness is known in closed form, and raises its own alarm."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from gauntlet.checks import white_box
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime.classifier import Classifier
from tests.gauntlet.conftest import exact_distances, labels_of


class Fault(nn.Module):
    """The linear model with something before it or after it."""

    def __init__(self, inner: nn.Module, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(self.before(x)))


@dataclass(frozen=True)
class Planted:
    """What the referee and the checks need of a classifier."""

    honest: Classifier
    twin: nn.Module

    def __getattr__(self, name: str) -> object:
        return getattr(self.honest, name)

    def predict(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.twin(x)


def same(x: Tensor) -> Tensor:
    return x


def quantised(x: Tensor) -> Tensor:
    return (x * 255).round() / 255  # no gradient


def rippled(x: Tensor) -> Tensor:
    return x + 2e-3 * torch.sin(1e5 * x)  # a gradient of 1 and of 200 noise


def through_a_lie(x: Tensor) -> Tensor:
    return x + (0.5 * x.flip(3) - 0.5 * x.flip(3).detach())  # right values, wrong gradient


def noisy(logits: Tensor) -> Tensor:
    return logits + 0.01 * torch.randn_like(logits)


FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "gradients are there": (quantised, same),
    "logits of a sane scale": (same, lambda z: 1e4 * z),
    "gradients lead somewhere": (rippled, same),
    "gradients are right": (through_a_lie, same),
    "deterministic": (same, noisy),
    "outputs are logits": (same, lambda z: z.softmax(1)),
}


def examined(model: Classifier | Planted, x: Tensor, seed: int = 0) -> dict[str, white_box.Verdict]:
    return white_box.examine(model, x, labels_of(model, x), seed=seed, check_cancelled=lambda: None).verdicts


@pytest.fixture(scope="module")
def many() -> Tensor:
    return (KeyedRandom.span(0, 0, 64).uniform(0, (1, 8, 8)) * 40 + 108).round() / 255


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)  # on all that ships, by bench.calibration
def test_a_sound_model_raises_no_alarm(linear: Classifier, convolutional: Classifier, many: Tensor, seed: int) -> None:
    for model in (linear, convolutional):
        assert [name for name, verdict in examined(model, many, seed).items() if not verdict.passed] == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_raises_its_own_alarm(linear: Classifier, many: Tensor, name: str) -> None:
    found = examined(Planted(linear, Fault(linear.twin, *FAULTS[name])), many)
    assert found.keys() == white_box.CHECKS.keys()
    assert not found[name].passed, found[name].measured
    assert found[name].measured


def test_a_model_that_is_always_wrong_is_an_alarm(linear: Classifier, many: Tensor) -> None:
    wrong = (labels_of(linear, many) + 1) % 3
    found = white_box.examine(linear, many, wrong, check_cancelled=lambda: None)
    assert [(name, verdict.passed) for name, verdict in found.verdicts.items()] == [(white_box.ATTACKABLE, False)]
    assert len(found.places) == len(found.l2) == 0


def test_the_distances_found_are_those_of_the_images_they_stand_for(linear: Classifier, many: Tensor) -> None:
    y = labels_of(linear, many)
    y[::3] = (y[::3] + 1) % 3  # wrong from the start
    found = white_box.examine(linear, many, y, check_cancelled=lambda: None)
    assert found.places.tolist() == [place for place in range(len(many)) if place % 3]
    exact = exact_distances(linear, many, y, "l2")[found.places]
    assert ((found.l2 >= exact - 1e-6) & (found.l2 <= 1.1 * exact)).all()


@pytest.mark.parametrize(("ours", "theirs", "alarm"), [(5, 0, False), (6, 0, True), (20, 15, False), (40, 10, True)])
def test_a_weaker_attack_may_win_by_chance_but_not_by_more(ours: int, theirs: int, alarm: bool) -> None:
    weak = torch.arange(64) < ours
    strong = torch.arange(64) >= 64 - theirs
    assert white_box.beats(weak, strong) == (alarm, ours, theirs)


def test_every_check_says_what_it_means_and_what_to_do() -> None:
    for check in white_box.CHECKS.values():
        assert check.meaning.endswith(".")
        assert check.advice.endswith(".")


def test_a_stop_ends_the_examination(linear: Classifier, many: Tensor) -> None:
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        white_box.examine(linear, many, labels_of(linear, many), check_cancelled=stop)
