from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gauntlet.artifacts import artefact_folders
from gauntlet.per_sample_random import KeyedRandom
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier
from tests import tiny


def opened(folder: Path) -> Classifier:
    model = classifier.open_model(artefact_folders.load(folder), "cpu")
    assert isinstance(model, OnnxClassifier)
    return model


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return opened(tiny.linear(tmp_path_factory.mktemp("models") / "linear"))


@pytest.fixture(scope="session")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return opened(tiny.convolutional(tmp_path_factory.mktemp("models") / "convolutional"))


@pytest.fixture(scope="session")
def images() -> Tensor:
    """24 images away from the edges of the box, on the 8-bit grid, so that the box does not change a closed form."""
    return (KeyedRandom.span(0, 0, 24).uniform(0, tiny.SHAPE) * 40 + 108).round() / 255


def labels_of(model: Classifier, x: Tensor) -> Tensor:
    return model.predict(x).argmax(dim=1)


def exact_distances(model: Classifier, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """A linear model's minimal adversarial distance: min over j of (z_y - z_j) / dual norm of (w_y - w_j).

    In L1 and L0, where a few pixels do it all, each goes no farther than the box allows: the best first.
    """
    (layer,) = (part for part in model.twin.modules() if isinstance(part, nn.Linear))
    weight, bias = layer.weight.double(), layer.bias.double()
    z = x.double().flatten(1) @ weight.T + bias
    gap = z.gather(1, y[:, None]) - z  # (n, K)
    difference = weight[None] - weight[y][:, None]  # (n, K, pixels)
    if norm in ("linf", "l2"):
        distance = gap / difference.norm(dim=2, p=2 if norm == "l2" else 1)
    else:
        flat = x.double().flatten(1)[:, None]
        room = torch.where(difference > 0, 1 - flat, flat)
        gain = difference.abs() * room
        best = (gain if norm == "l0" else difference.abs()).argsort(dim=2, descending=True)
        gain, room = gain.gather(2, best), room.gather(2, best)
        whole = gain.cumsum(2) < gap[..., None]  # pixels that go all the way
        last = whole.sum(2, keepdim=True).clamp_max(gain.shape[2] - 1)
        rest = (gap - (gain * whole).sum(2)) / gain.gather(2, last).squeeze(2)  # share of the last one's way
        distance = (
            whole.sum(2) + 1.0 if norm == "l0" else (room * whole).sum(2) + rest * room.gather(2, last).squeeze(2)
        )
    return distance.scatter(1, y[:, None], torch.inf).amin(dim=1)
