"""/classify with ``smoothing``. Of a linear model no smoothed radius can exceed the distance to the boundary."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from gauntlet.errors import DeadlineExceeded, InvalidInput
from service.compute.smoothed_classification import classify_smoothed
from service.schemas.main_calls import ClassifyRequest, ClassifyResponse, SmoothedCertificate
from service.settings import Settings
from tests import tiny
from tests.service.conftest import BUDGET, SHORT_REPORT, Server, arrays
from tests.service.models import compute_models

SMOOTHING = {"sigma": 0.1, "samples": 1_000, "seed": 1}


def ask(client: httpx.Client, n: int, **smoothing: object) -> httpx.Response:
    body = {"model": "linear", "images": arrays(n), "smoothing": {**SMOOTHING, **smoothing}}
    return client.post("/classify", json=body)


def test_the_certificate_is_the_smoothed_classifiers_and_never_beyond_the_boundary(client: httpx.Client):
    answer = ask(client, 6)
    assert answer.status_code == 200, answer.text
    ClassifyResponse.model_validate(answer.json())
    plain = client.post("/classify", json={"model": "linear", "images": arrays(6)}).json()["predictions"]
    proved = 0
    for prediction, exact in zip(answer.json()["predictions"], plain, strict=True):
        assert prediction["label"] == exact["label"]
        assert prediction["certified_radius"] is None
        certificate = prediction["certificate"]
        assert certificate["method"] == "randomized smoothing"
        assert [certificate[name] for name in ("sigma", "samples", "alpha", "seed")] == [0.1, 1_000, 0.001, 1]
        if certificate["abstained"]:
            assert certificate["label"] is certificate["class_name"] is None
            assert certificate["radius"] == 0
        else:
            assert certificate["label"] == exact["label"]
            assert certificate["class_name"] == exact["class_name"]
            assert 0 < certificate["radius"] <= exact["certified_radius"]
            proved += 1
    assert proved > 0


def test_the_same_seed_repeats_it_and_without_one_it_is_drawn_and_told(client: httpx.Client):
    first, again = ask(client, 2).json(), ask(client, 2).json()
    assert first == again
    seeds = {ask(client, 1, seed=None).json()["predictions"][0]["certificate"]["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_smoothing_is_counted_apart_from_what_is_meant_to_be_quick(server: Server):
    before = server.metrics()
    assert ask(server.client, 1).status_code == 200
    moved = {name: value - before.get(name, 0) for name, value in server.metrics().items()}
    counts = {name: value for name, value in moved.items() if name.startswith("gauntlet_request_seconds_count")}
    assert counts['gauntlet_request_seconds_count{method="POST",route="/classify smoothed"}'] == 1
    assert counts.get('gauntlet_request_seconds_count{method="POST",route="/classify"}', 0) == 0


def test_too_many_draws_are_too_expensive(client: httpx.Client):
    answer = ask(client, 2, samples=BUDGET)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "too_expensive"
    assert error["details"]["use"] == "POST /robustness-report"
    assert (error["details"]["cost"], error["details"]["limit"]) == (2 * (BUDGET + 100), BUDGET)


@pytest.mark.parametrize("wrong", [{"sigma": 0}, {"samples": 1}, {"alpha": 1}, {"surprise": 1}, {"sigma": None}])
def test_what_is_wrong_is_named(client: httpx.Client, wrong: dict[str, object]):
    answer = ask(client, 1, **wrong)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["field"] == f"smoothing.{next(iter(wrong))}"


def test_a_report_certifies_the_smoothed_classifiers_too(server: Server):
    spec = {"sigma": 0.1, "samples": 500, "images": 5}
    body = {**SHORT_REPORT, "smoothing": spec}
    done = server.finished(server.submit(body))
    assert done["status"] == "succeeded", done["error"]
    assert [model["smoothed"]["accuracy"]["n"] for model in done["report"]["models"]] == [5, 5]
    refused = server.client.post("/robustness-report", json={**SHORT_REPORT, "smoothing": {}})
    assert refused.status_code == 422
    assert refused.json()["error"]["details"]["field"] == "smoothing.sigma"


def test_sigma_is_the_manifests_unless_another_is_asked_for_and_a_stop_ends_it(tmp_path: Path):
    folder = tiny.linear(tmp_path / "artifacts" / "noisy")
    tiny.save_manifest(folder, kind="classifier", input_shape=tiny.SHAPE, classes=tiny.CLASSES, sigma=0.125)
    tiny.linear(tmp_path / "artifacts" / "plain")
    tiny.evalset(tmp_path / "evalsets" / "tiny.npz")
    models = compute_models(Settings(models=tmp_path, state=tmp_path))

    def sigma(model: str, **smoothing: object) -> float:
        body = {
            "model": model,
            "images": np.zeros((1, *tiny.SHAPE)).tolist(),
            "smoothing": {"samples": 10, **smoothing},
        }
        request = ClassifyRequest.model_validate(body)
        assert request.smoothing is not None
        (prediction,) = classify_smoothed(models, request, request.smoothing, check_cancelled).predictions
        assert isinstance(prediction.certificate, SmoothedCertificate)
        return prediction.certificate.sigma

    def check_cancelled() -> None:
        if over:
            raise DeadlineExceeded("over")

    over = False
    assert sigma("noisy") == 0.125
    assert sigma("noisy", sigma=0.5) == 0.5
    with pytest.raises(InvalidInput, match=r"plain was not trained with noise"):
        sigma("plain")
    over = True
    with pytest.raises(DeadlineExceeded):
        sigma("noisy")
