"""A refused upload leaves nothing, and a model that answered with an error can be removed at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import.settings import ImageSetSettings, ModelSettings
from gauntlet.report.schema import ReportRequest
from gauntlet.sandbox.sandboxed_classifier import SandboxedClassifier
from service.compute import repository
from service.compute.add_evalset import add_evalset
from service.compute.attack_request import attack
from service.compute.model_added import model_added
from service.compute.models import ComputeModels
from service.compute.prediction_model import prediction_model
from service.compute.report_request import ReportRequests
from service.compute.smoothed_classification import classify_smoothed
from service.compute.uploads import Uploads
from service.errors import Code, ServiceError
from service.inference_protocol.inference import InferCall, infer
from service.predictions.classify_requests import ClassifyRequests
from service.schemas.main_calls import AttackRequest, ClassifyRequest, SmoothingIn
from service.uploads import models as uploaded_models
from service.uploads.evalsets import EvaluationSets
from service.uploads.file_storage import Folder
from service.uploads.ownership import OPERATORS
from service.uploads.records import UploadRecords
from tests import sandboxed, zoo
from tests.gauntlet.test_predicted_labels import blind_above
from tests.service.models import linear_and_uploads

CASES = Path(__file__).parents[1] / "cases"
GREY = [[0.5] * 8] * 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeModels]:
    with linear_and_uploads(tmp_path_factory.mktemp("uploaded")) as made:
        yield made


def classify(models: ComputeModels) -> ClassifyRequests:
    return ClassifyRequests(lambda name: prediction_model(models, name), 9)


@pytest.fixture
def mine(models: ComputeModels) -> Iterator[str]:
    add(models, "mine")
    yield "mine"
    if models.uploaded.manifests.get("mine") is not None:
        models.uploaded.remove("mine")


def add(models: ComputeModels, name: str, data: bytes | None = None, describe: Any = lambda _: None) -> Any:
    declared = ModelSettings(name=name, pixel_range="0..1")
    with sandboxed.held(data or zoo.dense((1, 8, 8))) as file:
        return models.uploaded.add(file, declared, models.catalog.reserved, OPERATORS, describe=describe)


def test_a_model_that_cannot_be_described_is_not_kept(models: ComputeModels):
    seen: list[SandboxedClassifier] = []

    def describe(guest: SandboxedClassifier) -> None:
        assert models.uploaded.manifests.get("mine") is None
        seen.append(guest)
        raise ValueError("no JSON has this number")

    with pytest.raises(ValueError, match="no JSON"):
        add(models, "mine", describe=describe)
    assert models.uploaded.manifests.all() == {}
    assert not models.uploaded._open
    assert not seen[0].alive
    add(models, "mine")  # the name is free
    models.uploaded.remove("mine")


def test_a_model_that_the_database_does_not_take_is_not_kept(models: ComputeModels, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise ServiceError(Code.UPLOADS_FULL, "full")

    monkeypatch.setattr(models.uploaded._storage, "add", full)
    with pytest.raises(ServiceError):
        add(models, "mine")
    assert not models.uploaded._open


def test_images_that_cannot_be_described_are_not_kept(models: ComputeModels, tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.arange(2))
    sets = EvaluationSets([], models.uploaded._storage)
    kept = sets, models.uploaded._storage, models.uploaded._fork_server
    with pytest.raises(ZeroDivisionError), (tmp_path / "x.npz").open("rb") as file:
        add_evalset(*kept, file, ImageSetSettings(name="own"), OPERATORS, limit=9, describe=lambda _: 1 / 0)
    assert sets.names == []


def test_infinite_gradients_leave_an_answer_that_json_can_hold(models: ComputeModels):
    added = add(models, "sqrt", (CASES / "sqrt-first.onnx").read_bytes(), model_added)
    assert added.manifest.gradients == "verified"
    assert "Infinity" not in added.model_dump_json()
    models.uploaded.remove("sqrt")


def refused(work: Any) -> Exception:
    """The error, with the frames that led to it and all that these hold."""
    with pytest.raises((ServiceError, InvalidInput)) as caught:
        work()
    return caught.value


def attacked(**fields: Any) -> AttackRequest:
    given = {"model": "mine", "attack": "pgd", "images": [GREY], "norm": "linf", "eps": 0.1, "format": "array"}
    return AttackRequest.model_validate(given | fields)


NO_IMAGES = EvaluationSets([], UploadRecords("sqlite:////nowhere", Folder(Path("/nowhere"))))
REFUSED = {
    "an attack without its eps": lambda models: attack(models, attacked(eps=None), lambda: None),
    "an attack on a label that is none": lambda models: attack(models, attacked(labels=[99]), lambda: None),
    "an attack to be transferred to nothing": lambda models: attack(
        models, attacked(transfer_to=["none"]), lambda: None
    ),
    "a classification": lambda models: classify(models).answer(ClassifyRequest(model="mine", images=[[[2.0]]])),
    "a report": lambda models: ReportRequests(models, NO_IMAGES, None).check(
        ReportRequest(models=["mine"], dataset="none", n=1)
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_model_is_free_as_soon_as_a_request_is_refused(models: ComputeModels, mine: str, what: str):
    error = refused(lambda: REFUSED[what](models))
    assert error.__traceback__ is not None  # whatever holds the frames, holds no lease
    models.uploaded.remove(mine)
    assert models.uploaded.manifests.get(mine) is None


TOO_MUCH = {"an attack": {"attack": "pgd", "params": {"steps": 10**6}}, "a name": {"attack": "none-such"}}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_no_model_is_opened_for_an_attack_that_is_refused(
    models: ComputeModels, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr(ComputeModels, "classifier", lambda *_: pytest.fail("opened"))
    asked = attacked(model="linear", **TOO_MUCH[what])
    error = refused(lambda: attack(models, asked, lambda: None))
    assert isinstance(error, ServiceError | InvalidInput)


def test_no_model_is_opened_for_smoothing_that_is_too_expensive(models: ComputeModels, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ComputeModels, "classifier", lambda *_: pytest.fail("opened"))
    smoothing = SmoothingIn(sigma=0.1, samples=10**6)
    asked = ClassifyRequest(model="linear", images=[GREY], smoothing=smoothing)
    error = refused(lambda: classify_smoothed(models, asked, smoothing, lambda: None))
    assert isinstance(error, ServiceError)
    assert error.code is Code.TOO_EXPENSIVE


def delete(models: ComputeModels, name: str) -> int:
    sandbox, storage = models.uploaded._fork_server, models.uploaded._storage
    jobs: Any = SimpleNamespace(check_unused=lambda _: None)
    uploads = Uploads(models, storage, EvaluationSets([], storage), sandbox, jobs)
    return uploads.delete_model(Request({"type": "http", "path_params": {"name": name}})).status_code


def test_a_model_that_has_been_unloaded_can_be_deleted_and_its_name_used_again(models: ComputeModels, mine: str):
    repository.unload(models, mine)
    with pytest.raises(ServiceError) as taken:
        add(models, mine)
    assert taken.value.code is Code.NAME_TAKEN
    assert delete(models, mine) == 204
    add(models, mine)
    assert models.catalog.manifest(mine).name == mine


def test_a_model_that_came_with_the_service_and_has_been_unloaded_is_not_deleted(models: ComputeModels):
    repository.unload(models, "linear")
    with pytest.raises(ServiceError, match="has been unloaded"):
        delete(models, "linear")
    repository.load(models, "linear")
    with pytest.raises(ServiceError) as shipped:
        delete(models, "linear")
    assert shipped.value.code is Code.BUILT_IN


def test_a_model_is_not_removed_while_it_is_leased_however_often(models: ComputeModels, mine: str):
    with models.classifier(mine) as one, models.classifier(mine) as other:
        assert one is other
        with pytest.raises(ServiceError) as caught:
            models.uploaded.remove(mine)
        assert caught.value.code is Code.IN_USE
    models.uploaded.remove(mine)
    assert not models.uploaded._leases


def test_only_idle_models_are_closed_when_there_are_too_many(models: ComputeModels, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploaded_models, "OPEN", 1)
    for name in ("one", "two"):
        add(models, name)
    with models.classifier("one") as one, models.classifier("two") as two:
        assert (one.alive, two.alive) == (True, True)  # type: ignore[attr-defined]
    assert len(models.uploaded._open) == 1
    for name in ("one", "two"):
        models.uploaded.remove(name)


@pytest.fixture(scope="module")
def blind(models: ComputeModels) -> str:
    """A model that answers images of a mean above 0.8 with NaN."""
    add(models, "blind", blind_above(0.8))
    return "blind"


DARK, BRIGHT = [[0.3] * 8] * 8, [[0.95] * 8] * 8


def test_an_image_without_an_answer_is_named_and_its_neighbours_are_classified(models: ComputeModels, blind: str):
    asked = ClassifyRequest(model=blind, images=[DARK, BRIGHT, GREY])
    for answer in (classify(models).answer(asked), *classify(models).answer_together(blind, [asked])):
        assert not isinstance(answer, Exception)
        first, second, third = answer.predictions
        assert first.error is None
        assert first.probability is not None
        assert third.label is not None
        assert second.error is not None
        assert "NaN" in second.error
        assert second.model_dump(exclude={"error"}) == dict.fromkeys(second.model_dump(exclude={"error"}))
    (alone,) = classify(models).answer(ClassifyRequest(model=blind, images=[DARK])).predictions
    assert alone.label == first.label


@pytest.mark.parametrize("labels", [None, [0, 0]])
def test_an_image_without_an_answer_is_not_attacked_and_its_neighbour_is(
    models: ComputeModels, blind: str, labels: Any
):
    own = classify(models).answer(ClassifyRequest(model=blind, images=[DARK])).predictions[0].label
    labels = labels and [own, 0]
    asked = attacked(model=blind, images=[DARK, BRIGHT], labels=labels, eps=0.3, transfer_to=[blind])
    answer = attack(models, asked, lambda: None)
    first, second = answer.results
    assert first.error is None
    assert first.clean_label == own
    assert second.error is not None
    assert (second.success, second.clean_label, second.adversarial_label) == (False, None, None)
    assert second.label == (labels and 0)
    assert answer.summary.clean_accuracy == (labels and 0.5)


def test_in_the_open_inference_protocol_it_is_null_and_label_minus_one(models: ComputeModels, blind: str):
    data = json.dumps([[DARK], [BRIGHT]]).encode()
    body = b'{"inputs": [{"name": "images", "shape": [2, 1, 8, 8], "datatype": "FP32", "data": ' + data + b"}]}"
    with prediction_model(models, blind) as model:
        answer = infer(model, InferCall(None, body, None, "", 9))
    outputs = {tensor["name"]: tensor["data"] for tensor in json.loads(answer.body)["outputs"]}
    assert outputs["label"][0] >= 0
    assert outputs["label"][1] == -1
    assert outputs["probabilities"][3:] == [None] * 3
    assert None not in outputs["probabilities"][:3]
    assert outputs["certified_radius"][1] == 0
