"""A temperature changes how sure a prediction sounds, and nothing else."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gauntlet.certify.lipschitz import Certificate
from service.predictions.classification import classify
from service.schemas.main_calls import ClassifyRequest, Prediction
from service.settings import Settings
from tests import tiny
from tests.service.models import classify_requests

LOGITS = np.array([[0.3, 0.1, -0.2], [2.0, -1.0, 1.9]], np.float32)
PROVED = Certificate(1.0, np.full((3, 3), 2.0), "proved")


def model(temperature: float) -> SimpleNamespace:
    manifest = SimpleNamespace(temperature=temperature)
    return SimpleNamespace(
        name="fixed", manifest=manifest, certificate=PROVED, intervals=None, predict=lambda _: LOGITS
    )


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_only_probabilities_depend_on_the_temperature(temperature: float):
    found, plain = (classify(model(value), np.zeros((2, 1, 2, 2), np.float32)) for value in (temperature, 1.0))
    powers = np.exp(LOGITS.astype(np.float64) / temperature)
    assert np.allclose(found.probabilities, powers / powers.sum(axis=1, keepdims=True))
    assert np.array_equal(found.labels, plain.labels)
    assert np.array_equal(found.margins, plain.margins)
    assert np.array_equal(found.radii, plain.radii)
    assert np.array_equal(found.logits, LOGITS)


def test_only_a_model_trained_for_intervals_has_a_linf_radius_and_it_is_that_of_a_linear_one(tmp_path: Path):
    artifacts = tmp_path / "models" / "artifacts"
    tiny.linear(artifacts / "plain")
    folder = tiny.linear(artifacts / "bounded")
    fields = json.loads((folder / "manifest.json").read_text()) | {"name": "bounded", "interval_eps": 0.01}
    (folder / "manifest.json").write_text(json.dumps(fields))
    (tmp_path / "models" / "evalsets").mkdir()
    requests = classify_requests(Settings(models=tmp_path / "models", state=tmp_path, data=tmp_path, threads=1))
    x = np.random.default_rng(3).uniform(0.3, 0.7, (20, 1, 8, 8)).astype(np.float32)  # far from black and white

    def ask(name: str) -> list[Prediction]:
        return requests.answer(ClassifyRequest(model=name, images=x.tolist())).predictions

    assert {prediction.certified_linf_radius for prediction in ask("plain")} == {None}
    weight = numpy_helper.to_array(onnx.load(folder / "model.onnx").graph.initializer[0])
    logits = x.reshape(20, -1) @ weight.T
    for prediction, z in zip(ask("bounded"), logits, strict=True):
        top = int(z.argmax())
        others = [label for label in range(3) if label != top]
        exact = min((z[top] - z[j]) / np.abs(weight[top] - weight[j]).sum() for j in others)
        assert prediction.certified_linf_radius is not None
        assert 0.8 * exact <= prediction.certified_linf_radius < exact
