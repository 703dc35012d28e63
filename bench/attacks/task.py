"""The task that every contender gets, with a network that counts its passes."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gauntlet.artifacts import artefact_folders, evaluation_sets
from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.errors import InvalidInput
from gauntlet.runtime import classifier
from gauntlet.runtime.classifier import Classifier, OnnxClassifier

ARTIFACTS = Path("models/artifacts")
EVALSETS = Path("models/evalsets"), Path(os.environ.get("GAUNTLET_DATA", "data")) / "evalsets"


class Counted(nn.Module):
    """A network that counts the images that go through it, forward and backward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = 0
        self.backwards = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits: Tensor = self.network(x)
        if logits.requires_grad:
            logits.register_hook(self._back)  # type: ignore[no-untyped-call]
        return logits

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@dataclass(frozen=True)
class Task:
    """Images to attack: all of them classified correctly, on the CPU."""

    model: Classifier  # its twin is a Counted one
    x: Tensor  # (n, C, H, W) in [0, 1]
    y: Tensor  # (n,)
    steps: int = 0  # that an attack may take; each is one forward and one backward pass per image
    batch: int = 128  # batch size of a peer
    seed: int = 0
    eps: float | None = None

    @property
    def twin(self) -> Counted:
        assert isinstance(self.model.twin, Counted)
        return self.model.twin

    @property
    def budget(self) -> float:
        """Its eps, which must be set."""
        assert self.eps is not None
        return self.eps

    def first(self, n: int) -> "Task":
        return dataclasses.replace(self, x=self.x[:n], y=self.y[:n])

    def by_batch(self, attack: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Run an attack on (x, y) batch by batch; return all its images (n, C, H, W)."""
        place = self.model.device
        pairs = zip(torch.split(self.x, self.batch), torch.split(self.y, self.batch), strict=True)
        return torch.cat([attack(x.to(place), y.to(place)).detach().cpu() for x, y in pairs])


@dataclass(frozen=True)
class Contender:
    """An attack of a library."""

    name: str
    run: Callable[[Task], Tensor]  # returns images (n, C, H, W): adversarial examples where it found them
    ours: bool = False  # the engine chooses its own batch size
    capped: bool = True  # limited to Task.steps
    tried: int = 60  # steps of the short runs that choose its batch size


def shipped() -> list[str]:
    """Return the names of the classifiers in models/artifacts."""
    found = artefact_folders.load_all(ARTIFACTS)
    return [name for name, artefact in found.items() if isinstance(artefact.manifest, ClassifierManifest)]


def open_classifier(name: str) -> OnnxClassifier:
    """Open a shipped classifier."""
    model = classifier.open_model(artefact_folders.load(ARTIFACTS / name))
    assert isinstance(model, OnnxClassifier)
    return model


def open_counted(name: str) -> OnnxClassifier:
    """A shipped classifier whose twin counts."""
    model = open_classifier(name)
    model.twin = Counted(model.twin)
    return model


def images_of(model: Classifier) -> evaluation_sets.EvalSet:
    """Load the evaluation set of the model's data set. Raises InvalidInput if it is missing."""
    paths, name = evaluation_sets.find(EVALSETS), model.manifest.dataset
    if name not in paths:
        raise InvalidInput(evaluation_sets.missing(name, paths), "dataset")
    return evaluation_sets.load(paths[name])


def images_to_test(model: Classifier, n: int, skipped: int = 0) -> tuple[Tensor, Tensor]:
    """Return the first n images and labels of the model's data set, or n after those skipped."""
    x, y = map(torch.from_numpy, images_of(model).head(skipped + n))
    return x[skipped:], y[skipped:]


def correct(model: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images and labels that ONNX Runtime classifies correctly."""
    right = model.predict(x).argmax(dim=1) == y
    return x[right], y[right]


def first_correct(model: Classifier, n: int) -> tuple[Tensor, Tensor]:
    """Return the first n images of the model's data set that it classifies correctly, and their labels."""
    dataset = images_of(model)
    x, y = correct(model, *map(torch.from_numpy, dataset.head(min(4 * n, len(dataset.labels)))))
    return x[:n], y[:n]
