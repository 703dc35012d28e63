"""Whose uploads there are: what belongs to one key is for every other as if it were not there, whatever way it asks."""

import asyncio
import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from dbos import run_dbos_database_migrations

from gauntlet.artifacts import evaluation_sets
from service.compute.app import open_compute
from service.compute.fetching import check_source
from service.compute.upload_parts import Files
from service.endpoints.routes import ENDPOINTS
from service.errors import ServiceError
from service.jobs.queue import Jobs
from service.observability import worker_metrics
from service.request_context import CALL, Call, Scope, internal_headers
from service.request_context import Caller as Key
from service.settings import Settings
from service.uploads.ownership import OPERATORS, Ownership, of_this_call
from service.uploads.records import UploadRecords
from tests import tiny, zoo
from tests.service import models
from tests.service.databases import disposed_engines
from tests.service.in_process import LINES, SECRETS, Caller, code, door, entry
from tests.service.stored import SHA256, add, uploads

PRIVATE, SHARED, ABSENT = "anns-own", "for-all", "not-here"
"""Names of a model and an evaluation set: of the key ann alone, of ann for every key, of nobody."""

IMAGES = [[[[0.5] * 8] * 8]]
FILE = zoo.dense((1, 8, 8))
INFER = {"inputs": [{"name": "images", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64}]}
ATTACK = {"attack": "fgsm", "norm": "l2", "eps": 0.1, "images": IMAGES}
REPORT = {"n": 1, "attacks": ["fgsm"], "threats": [{"norm": "l2", "eps": [0.1]}]}


def upload(data: bytes, **settings: Any) -> dict[str, Any]:
    """What httpx sends for it."""
    request = httpx.Request("POST", "http://x", files={"file": ("file", data)}, data={"settings": json.dumps(settings)})
    headers = {"Content-Type": request.headers["content-type"], "Prefer": "wait=600"}  # for a model to be opened
    return {"content": request.read(), "headers": headers}


def given(**body: Any) -> dict[str, Any]:
    return {"json": body}


WAYS: dict[str, Any] = {
    "GET /models/{name}": lambda name: {},
    "DELETE /models/{name}": lambda name: {},
    "GET /evalsets/{name}": lambda name: {},
    "DELETE /evalsets/{name}": lambda name: {},
    "GET /v2/models/{name}": lambda name: {},
    "GET /v2/models/{name}/ready": lambda name: {},
    "GET /v2/models/{name}/versions/{version}": lambda name: {},
    "GET /v2/models/{name}/versions/{version}/ready": lambda name: {},
    "POST /v2/models/{name}/infer": lambda name: given(**INFER),
    "POST /v2/models/{name}/versions/{version}/infer": lambda name: given(**INFER),
    "POST /classify": lambda name: given(model=name, images=IMAGES),
    "POST /classify smoothing": lambda name: given(model=name, images=IMAGES, smoothing={"sigma": 0.1, "samples": 100}),
    "POST /pictures": lambda name: given(model=name, images=IMAGES),
    "POST /generate": lambda name: given(model=name),
    "POST /attack": lambda name: given(model=name, **ATTACK),
    "POST /attack transfer_to": lambda name: given(model="linear", transfer_to=[name], **ATTACK),
    "POST /certify": lambda name: given(model=name, images=IMAGES, eps=0.01, budget_seconds=1.0),
    "POST /robustness-report models": lambda name: given(models=[name], dataset="tiny", **REPORT),
    "POST /robustness-report dataset": lambda name: given(models=["linear"], dataset=name, **REPORT),
    "POST /models calibration_set": lambda name: upload(FILE, name="another", calibration_set=name),
}
"""Every way to name a model or an evaluation set, and what is sent along."""

FIELDS = {"model", "models", "dataset", "transfer_to", "calibration_set"}


def pixels() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4) % 5)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The whole service in this process, with uploads of the key ann: one of each kind, and one of each shared."""
    folder = tmp_path_factory.mktemp("owned")
    tiny.linear(folder / "artifacts" / "linear")
    tiny.evalset(folder / "evalsets" / "tiny.npz")
    keys = "\n".join([LINES, *(entry(name, name, "upload") for name in ("ann", "bob"))])
    with disposed_engines(), pytest.MonkeyPatch.context() as patched:
        patched.setenv("GAUNTLET_STATE", str(folder))
        patched.setenv("GAUNTLET_API_KEYS", keys)
        settings = Settings(models=folder, state=folder, data=folder, threads=1, device="cpu")
        run_dbos_database_migrations(settings.database_url)
        Jobs(settings.database_url).database.migrate()
        compute = open_compute(settings)
        routes = models.api(settings, compute)
        call, storage = Caller(door(routes)), UploadRecords.of(settings)
        for name, shared in ((PRIVATE, False), (SHARED, True)):
            answer = call("POST", "/models", key="ann", **upload(FILE, name=name, shared=shared))
            assert answer.status_code == 201, answer.text
        answer = call("POST", "/evalsets", key="ann", **upload(pixels(), name=PRIVATE))
        assert answer.status_code == 201, answer.text
        packed = evaluation_sets.pack(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4), tuple("abcde"), "mine")
        add(storage, SHARED, packed, "evalset", ownership=Ownership("ann", shared=True))
        yield SimpleNamespace(call=call, routes=routes, compute=compute)


def ask(call: Caller, way: str, name: str, key: str) -> httpx.Response:
    method, path = way.split()[:2]
    version = hashlib.sha256(FILE).hexdigest()
    return call(method, path.format(name=name, version=version), key=key, **WAYS[way](name))


def told(answer: httpx.Response, name: str) -> tuple[int, str]:
    """All that an answer tells but for its request's id, with the name asked for left out."""
    body = answer.json()
    if isinstance(body["error"], dict):
        del body["error"]["request_id"]
    return answer.status_code, json.dumps(body).replace(name, "NAME")


def test_every_way_to_name_an_upload_is_tried_here():
    for endpoint in ENDPOINTS:
        if endpoint.scope in (None, Scope.ADMIN):
            continue
        ways = [way.split()[2:] for way in WAYS if way.split()[:2] == [endpoint.method, endpoint.path]]
        if "name" in endpoint.parameters:
            assert ways, endpoint.path
        fields = FIELDS & set(endpoint.body.model_fields if endpoint.body else ())
        for field in fields - ({"dataset"} if endpoint.path == "/models" else set()):  # there it is a mere remark
            assert [] in ways or [field] in ways, (endpoint.path, field)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_another_keys_is_as_if_it_were_not_there(web: SimpleNamespace, way: str):
    absent = told(ask(web.call, way, ABSENT, "bob"), ABSENT)
    assert absent[0] == 404
    assert told(ask(web.call, way, PRIVATE, "bob"), PRIVATE) == absent


@pytest.mark.parametrize("key", ["ann", SECRETS[Scope.ADMIN]], ids=["its own key", "admin"])
@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("DELETE")])
def test_whose_it_is_sees_and_uses_it_and_an_admin_too(web: SimpleNamespace, way: str, key: str):
    assert "unknown" not in ask(web.call, way, PRIVATE, key).text


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("DELETE")])
def test_what_is_shared_every_key_sees_and_uses(web: SimpleNamespace, way: str):
    assert "unknown" not in ask(web.call, way, SHARED, "bob").text


def listed(call: Caller, key: str) -> list[set[str]]:
    """Names in each list that there is."""
    answers = (
        call("GET", "/models", key=key).json()["models"],
        call("GET", "/evalsets", key=key).json()["evalsets"],
        call("POST", "/v2/repository/index", key=key).json(),
    )
    return [{entry["name"] for entry in answer} for answer in answers]


def test_lists_hold_what_the_key_may_see(web: SimpleNamespace):
    for key, seen in (("ann", True), ("bob", False), (SECRETS[Scope.READ], False), (SECRETS[Scope.ADMIN], True)):
        for names in listed(web.call, key):
            assert (PRIVATE in names) is seen
            assert SHARED in names


def test_a_model_that_an_admin_has_unloaded_is_not_told_of(web: SimpleNamespace):
    call, stored = web.call, f"/v2/repository/models/{PRIVATE}"
    assert call("POST", f"{stored}/unload", key=SECRETS[Scope.ADMIN]).status_code == 200
    try:
        names = {entry["name"]: entry["state"] for entry in call("POST", "/v2/repository/index", key="ann").json()}
        assert names[PRIVATE] == "UNAVAILABLE"
        assert "has been unloaded" in call("GET", f"/models/{PRIVATE}", key="ann").text
        assert PRIVATE not in listed(call, "bob")[2]
        for way in WAYS:
            assert told(ask(call, way, PRIVATE, "bob"), PRIVATE) == told(ask(call, way, ABSENT, "bob"), ABSENT)
    finally:
        assert call("POST", f"{stored}/load", key=SECRETS[Scope.ADMIN]).status_code == 200


def test_metrics_name_no_model_that_who_asks_may_not_see(web: SimpleNamespace, settings):
    for name in (PRIVATE, SHARED):
        assert ask(web.call, "POST /classify", name, "ann").status_code == 200

    def figures(call: Caller, key: str | None) -> set[str]:
        lines = call("GET", "/metrics", key=key).text
        return set(re.findall(r'gauntlet_images_total{model="([^"]+)"', lines))

    assert {PRIVATE, SHARED} <= figures(web.call, "ann") & figures(web.call, SECRETS[Scope.ADMIN])
    for key in ("bob", SECRETS[Scope.READ]):
        assert figures(web.call, key) & {PRIVATE, SHARED} == {SHARED}
    settings(metrics_open=True, api_keys=LINES)
    everybody = Caller(door(web.routes))
    assert figures(everybody, None) & {PRIVATE, SHARED} == {SHARED}


def test_the_figures_of_a_worker_name_no_upload():
    """Its port has no job database to ask whose a model is."""
    cell = SimpleNamespace(kind="attack", model=PRIVATE, attack="fgsm")
    worker_metrics.count(
        SimpleNamespace(cell=cell, seconds=1.0, n=3, attack=SimpleNamespace(broken=[1])), uploaded=True
    )

    def attacked(model: str) -> float | None:
        labels = {"model": model, "attack": "fgsm"}
        return worker_metrics.REGISTRY.get_sample_value("gauntlet_worker_attacked_total", labels)

    assert (attacked(worker_metrics.UPLOADED), attacked(PRIVATE)) == (3, None)


def test_a_name_is_taken_for_all_and_nothing_more_is_told(web: SimpleNamespace):
    for path, data in (("/models", FILE), ("/evalsets", pixels())):
        answers = [web.call("POST", path, key="bob", **upload(data, name=name)) for name in (PRIVATE, SHARED)]
        assert [code(answer) for answer in answers] == [(409, "name_taken")] * 2
        assert told(answers[0], PRIVATE) == told(answers[1], SHARED)


@pytest.mark.parametrize("path", ["/models", "/evalsets"])
def test_what_is_shared_is_deleted_by_its_own_key_alone(web: SimpleNamespace, path: str):
    assert code(web.call("DELETE", f"{path}/{SHARED}", key="bob")) == (403, "forbidden")
    assert web.call("GET", f"{path}/{SHARED}", key="bob").status_code == 200


def test_calls_of_two_keys_do_not_share_a_batch(web: SimpleNamespace):
    """In the compute process, where a batch is computed on behalf of its first call."""
    keys = [Key(name, Scope.UPLOAD) for name in ("ann", "bob", "ann")]

    async def together() -> list[int]:
        transport = httpx.ASGITransport(web.compute)
        async with httpx.AsyncClient(transport=transport, base_url="http://compute") as client:
            body = {"model": PRIVATE, "images": IMAGES}
            calls = [client.post("/classify", json=body, headers=internal_headers(Call(caller=key))) for key in keys]
            return [answer.status_code for answer in await asyncio.gather(*calls)]

    assert anyio.run(together) == [200, 404, 200]


def test_a_key_that_may_upload_has_nothing_fetched():
    address, files = "s3://models/mine.onnx", Files(None, {})
    for scope, allowed in ((Scope.UPLOAD, False), (Scope.ADMIN, True)):
        with called_by("ann", scope):
            if allowed:
                check_source(files, address, ("s3://models/",))
                continue
            with pytest.raises(ServiceError, match="needs a key with the scope admin"):
                check_source(files, address, ("s3://models/",))


# The storage itself


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[UploadRecords]:
    (tmp_path / "jobs.sqlite").touch()
    made = uploads(f"sqlite:///{tmp_path / 'jobs.sqlite'}", tmp_path / "store")
    yield made
    made.close()


@contextlib.contextmanager
def called_by(key: str | None, scope: Scope = Scope.UPLOAD) -> Iterator[None]:
    token = CALL.set(Call(caller=None if key is None else Key(key, scope)))
    try:
        yield
    finally:
        CALL.reset(token)


def test_what_came_without_a_key_is_everybodys_and_an_admin_deletes_it(storage: UploadRecords):
    with called_by(None):
        assert of_this_call(shared=False) == OPERATORS
    add(storage, "old", ownership=OPERATORS)
    with called_by("ann"):
        assert storage.records("model") == {"old": "{}"}
        with pytest.raises(ServiceError, match="scope admin"):
            storage.check_removable("model", "old")
        storage.remove("model", "old")
        assert storage.record("model", "old") == "{}"
    with called_by("root", Scope.ADMIN):
        storage.check_removable("model", "old")
        storage.remove("model", "old")
    assert storage.records("model") == {}


@pytest.mark.parametrize("shared", [False, True])
def test_only_its_own_key_deletes_an_upload_whatever_was_checked_before(storage: UploadRecords, shared: bool):
    """Between the check and the deletion the name may have become another's."""
    add(storage, "mine", ownership=Ownership("ann", shared))
    with called_by("bob"):
        storage.remove("model", "mine")
    with called_by("ann"):
        assert storage.record("model", "mine") == "{}"
        storage.remove("model", "mine")
    with pytest.raises(FileNotFoundError):
        storage.files.open(SHA256)


def test_without_keys_everybody_sees_and_deletes_all(storage: UploadRecords):
    add(storage, "anns", ownership=Ownership("ann", shared=False))
    with called_by(None):
        assert storage.records("model") == {"anns": "{}"}
        assert storage.hidden("model") == frozenset()
        storage.check_removable("model", "anns")
        storage.remove("model", "anns")
    assert storage.records("model") == {}
