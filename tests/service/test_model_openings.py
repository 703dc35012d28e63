"""Opening an uploaded model is a job: where it stands is told, and why one was refused."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import anyio
import httpx
import pytest
import torch
from starlette.types import ASGIApp

from gauntlet.artifacts.manifest import ClassifierManifest
from gauntlet.certify.lipschitz import Certificate
from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import model_sources
from service.compute import app as compute_app
from service.compute.uploads import LONGEST_WAIT, WAIT, seconds_to_wait
from service.errors import Code, ServiceError
from service.jobs.queue import Jobs
from service.settings import Settings
from service.uploads import models as uploaded_models
from service.uploads import openings
from service.uploads.file_storage import Folder
from service.uploads.openings import KEPT, SILENT, Openings
from service.uploads.ownership import OPERATORS
from service.uploads.records import UploadRecords
from tests import tiny
from tests.service.conftest import arrays
from tests.service.in_process import door
from tests.service.models import api

PROVED = Certificate(2.0, None, "proved from the graph's weights")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=1e9)
    monkeypatch.setattr(openings, "time", SimpleNamespace(time=lambda: made.now))
    return made


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Openings]:
    (tmp_path / "jobs.sqlite").touch()
    storage = UploadRecords(f"sqlite:///{tmp_path / 'jobs.sqlite'}", Folder(tmp_path / "store"))
    assert storage.openings.all() == []
    yield storage.openings
    storage.close()


def test_one_model_of_a_name_is_opened_at_a_time(opened: Openings):
    opened.begin("mine", "a", OPERATORS)
    with pytest.raises(ServiceError) as caught:
        opened.begin("mine", "b", OPERATORS)
    assert caught.value.code is Code.NAME_TAKEN
    opened.failed("mine", {"code": "invalid", "message": "no"})
    opened.begin("mine", "b", OPERATORS)
    opened.advance("mine", "verifying")
    found = opened.get("mine")
    assert found is not None
    assert (found.state, found.stage, found.result) == ("opening", "verifying", {})
    opened.proved("mine", {"reason": "proved"})
    opened.ready("mine")
    assert [(one.name, one.state, one.result) for one in opened.all()] == [("mine", "ready", {"reason": "proved"})]
    opened.forget("mine")
    assert opened.all() == []
    assert opened.get("a\0b") is None


def test_a_failure_is_told_for_a_while_and_a_silent_opener_counts_as_gone(opened: Openings, clock: SimpleNamespace):
    for name in ("failed", "opening", "ready"):
        opened.begin(name, "a", OPERATORS)
    opened.failed("failed", {"message": "no"})
    opened.ready("ready")
    clock.now += KEPT - 1
    assert {one.name for one in opened.all()} == {"failed", "opening", "ready"}
    clock.now += 2
    assert opened.get("failed") is None
    clock.now += SILENT
    assert {one.name for one in opened.all()} == {"ready"}
    opened.begin("opening", "b", OPERATORS)


def test_what_a_killed_service_was_at_has_failed(opened: Openings):
    opened.begin("mine", "this", OPERATORS)
    opened.begin("others", "another", OPERATORS)
    opened.end_all("this")
    mine, others = opened.get("mine"), opened.get("others")
    assert mine is not None
    assert others is not None
    assert (mine.state, others.state) == ("failed", "opening")
    assert "upload it again" in mine.result["message"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", WAIT),
        ("wait=3", 3),
        ("respond-async", 0),
        ("respond-async, wait=7", 7),
        ('handling=lenient; wait="5"', 5),
        ("wait=99999999", LONGEST_WAIT),
        ("wait=-1", WAIT),
        ("await=4", WAIT),
        ("nonsense \0", WAIT),
    ],
)
def test_how_long_an_answer_waits(prefer: str, seconds: float):
    assert seconds_to_wait(prefer) == seconds


class Child:
    """A model that is open."""

    def __init__(self, manifest: ClassifierManifest) -> None:
        self.name, self.manifest, self.certificate, self.slope = manifest.name, manifest, PROVED, 1.0
        self.alive = True

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), len(self.manifest.classes))

    def close(self) -> None:
        self.alive = False


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Opens what is uploaded, which is a graph already, once it is set."""
    event = threading.Event()

    def adopt(_: object, file: Any, declared: Any, *__: object, graph: Any) -> ClassifierManifest:
        assert event.wait(600)
        file.seek(0)
        data = file.read()
        if data == b"bad":
            raise InvalidInput("the file is refused: it is not an ONNX file", "file")
        graph.write(data)
        graph.flush()
        files = {"model.onnx": hashlib.sha256(data).hexdigest()}
        fields = {"family": "custom", "dataset": "own", "metrics": {}, "training": None, "input_shape": (1, 8, 8)}
        fields["adoption"] = {"source_sha256": files["model.onnx"], "source_opset": 20, "choices": {}}
        return ClassifierManifest.model_validate(
            {"name": declared.name, "files": files, "classes": ["a", "b"], **fields}
        )

    monkeypatch.setattr(uploaded_models, "adopt", adopt)
    monkeypatch.setattr(uploaded_models, "open_sandboxed", lambda _, __, manifest, **___: Child(manifest))
    return event


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    tiny.linear(tmp_path / "models/artifacts/linear")
    (tmp_path / "jobs.sqlite").touch()
    monkeypatch.setattr(Jobs, "check_unused", lambda *_: None)  # no report needs any
    return door(
        api(Settings(models=tmp_path / "models", state=tmp_path, data=tmp_path, threads=1, model_sources=ALLOWED))
    )


async def until(client: httpx.AsyncClient, name: str, state: str) -> dict[str, Any]:
    while (found := (await client.get(f"/models/{name}")).json())["state"] == "opening":
        await anyio.sleep(0.01)
    assert found["state"] == state, found
    return found


def upload(client: httpx.AsyncClient, name: str, data: bytes, prefer: str = "respond-async") -> Any:
    files, said = {"file": ("m.onnx", data)}, {"settings": json.dumps({"name": name})}
    return client.post("/models", files=files, data=said, headers={"Prefer": prefer})


def test_a_model_is_opening_then_ready_or_failed_with_the_reason(service: ASGIApp, gate: threading.Event):
    async def told() -> None:
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=600) as client:
            accepted = await upload(client, "mine", b"graph")
            assert (accepted.status_code, accepted.headers["location"]) == (202, "/models/mine")
            assert accepted.json()["state"] == "opening"
            found = (await client.get("/models/mine")).json()
            assert (found["state"], found["error"]) == ("opening", None)
            assert [one["name"] for one in (await client.get("/models")).json()["opening"]] == ["mine"]
            asked = await client.post("/attack", json=ATTACK)
            assert (asked.status_code, asked.json()["error"]["code"]) == (503, "not_ready")
            assert (await upload(client, "mine", b"graph")).json()["error"]["code"] == "name_taken"
            assert (await client.delete("/models/mine")).json()["error"]["code"] == "in_use"
            gate.set()
            ready = await until(client, "mine", "ready")
            assert ready["certificate"] == {
                "lipschitz": 2.0,
                "reason": PROVED.reason,
                "steepest": 1.0,
                "looseness": 2.0,
            }
            added = await upload(client, "other", b"graph", "wait=600")
            assert added.status_code == 201
            assert added.json()["certificate"] == ready["certificate"]
            assert (await upload(client, "bad", b"bad")).status_code == 202
            failed = await until(client, "bad", "failed")
            assert failed["error"] == {
                "code": "invalid",
                "message": "the file is refused: it is not an ONNX file",
                "details": {"field": "file"},
            }
            asked = await client.post("/attack", json={**ATTACK, "model": "bad"})
            assert (asked.status_code, asked.json()["error"]["code"]) == (404, "unknown_model")
            assert "it is not an ONNX file" in asked.json()["error"]["message"]
            assert (await upload(client, "bad", b"bad", "wait=600")).status_code == 422
            listed = (await client.get("/models")).json()
            assert [(one["name"], one["state"]) for one in listed["opening"]] == [("bad", "failed")]
            assert {"mine", "other"} <= {one["name"] for one in listed["models"]}
            for name in ("bad", "mine", "other"):
                assert (await client.delete(f"/models/{name}")).status_code == 204, name
                assert (await client.get(f"/models/{name}")).status_code == 404

    anyio.run(told)


class Storage:
    """A bucket with one model."""

    def __init__(self, url: str) -> None:
        assert url == "s3://bucket/models"

    def exists(self, key: str) -> bool:
        return key == "m.onnx"

    def size(self, key: str) -> int:
        if not self.exists(key):
            raise FileNotFoundError(key)
        return 5

    def download(self, _: str, file: IO[bytes]) -> None:
        file.write(b"graph")


ALLOWED = ("s3://bucket/models/",)
FORM = {"files": {"file": ("m.onnx", b"graph")}}


@pytest.mark.parametrize(
    ("source", "form", "status", "field"),
    [
        ("s3://bucket/models/m.onnx", {}, 201, None),
        ("s3://bucket/models/none.onnx", {}, 422, "source"),
        ("s3://bucket/models/../m.onnx", {}, 403, "source"),
        ("http://169.254.169.254/latest", {}, 403, "source"),
        ("s3://bucket/models/m.onnx", FORM, 422, "source"),
        (None, {}, 422, "file"),
    ],
)
def test_a_model_is_fetched_from_where_an_operator_allows_and_nowhere_else(
    service: ASGIApp,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    source: str | None,
    form: dict[str, Any],
    status: int,
    field: str | None,
):
    monkeypatch.setattr(model_sources, "ObjectStorage", Storage)
    gate.set()
    said = json.dumps({"name": "mine", **({} if source is None else {"source": source})})
    files = {**form.get("files", {}), "settings": (None, said)}

    async def told() -> None:
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=600) as client:
            answer = await client.post("/models", files=files, headers={"Prefer": "wait=600"})
            assert answer.status_code == status, answer.text
            if field is not None:
                assert answer.json()["error"]["details"]["field"] == field
                return
            pinned = f"s3://bucket/models/m.onnx#sha256={hashlib.sha256(b'graph').hexdigest()}"
            assert answer.json()["manifest"]["adoption"]["source"] == pinned
            assert (await client.get("/models/mine")).json()["adoption"]["source"] == pinned

    anyio.run(told)


ATTACK = {"model": "mine", "attack": "pgd", "images": arrays(1), "norm": "l2", "eps": 0.1}


def test_an_opening_that_the_compute_process_left_is_ended_at_its_start(tmp_path: Path):
    (tmp_path / "jobs.sqlite").touch()
    settings = Settings(state=tmp_path)
    storage = UploadRecords.of(settings)
    storage.openings.begin("mine", settings.opener, OPERATORS)
    compute_app._settle_uploads(storage, settings.opener)
    found = storage.openings.get("mine")
    assert found is not None
    assert found.state == "failed"
    storage.close()
