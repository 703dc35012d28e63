"""A classifier of the compute process as what predictions are made with: arrays in, arrays out."""

import contextlib
from collections.abc import Iterator

import torch

from gauntlet.runtime.classifier import Classifier
from gauntlet.runtime.interval_radii import IntervalRadii
from service.compute.models import ComputeModels
from service.predictions.classification import Floats


class TorchPredictionModel:
    """A PredictionModel. Its certificates in Linf are POST /certify's."""

    intervals: IntervalRadii | None = None

    def __init__(self, model: Classifier) -> None:
        self.name, self.manifest, self.certificate = model.name, model.manifest, model.certificate
        self._model = model

    def predict(self, x: Floats) -> Floats:
        """Images (B, C, H, W) in [0, 1] to logits (B, K). Raises ModelFailed."""
        return self._model.predict(torch.from_numpy(x)).numpy()


@contextlib.contextmanager
def prediction_model(models: ComputeModels, name: str) -> Iterator[TorchPredictionModel]:
    """The classifier of this name, for as long as the context lasts. Raises ServiceError."""
    with models.classifier(name) as model:
        yield TorchPredictionModel(model)
