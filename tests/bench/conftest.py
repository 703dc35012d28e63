import pytest
import torch

from bench.attacks.task import Counted, Task
from gauntlet.artifacts import artefact_folders
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime import classifier
from tests import tiny


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    """Twelve images of a linear model that counts."""
    model = classifier.open_model(
        artefact_folders.load(tiny.linear(tmp_path_factory.mktemp("models") / "linear")), "cpu"
    )
    model.twin = Counted(model.twin)
    x = (KeyedRandom.span(0, 0, 12).uniform(0, tiny.SHAPE) * 40 + 108).round() / 255
    return Task(model, x, model.predict(x).argmax(dim=1), steps=60, batch=5)


@pytest.fixture
def linear_step(task):
    """What finds every image's nearest other class with one forward and one backward pass, and steps beyond it."""

    def attack(x, y):
        x = x.clone().requires_grad_()
        logits = task.twin(x)
        gap = logits.scatter(1, y[:, None], -torch.inf).amax(1) - logits.gather(1, y[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(gap.sum(), x)
        length = -gap / gradient.flatten(1).square().sum(1)
        return x + 1.05 * length[:, None, None, None] * gradient

    return attack
