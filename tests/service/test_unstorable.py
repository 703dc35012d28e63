"""Names that a database cannot hold: the same clear refusal on SQLite and on PostgreSQL, whichever way they come in."""

import io
import json
import re
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from dbos import DBOS
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from gauntlet.errors import InvalidInput
from gauntlet.onnx_import import labelled_images
from gauntlet.onnx_import.settings import ImageSetSettings
from gauntlet.text import cleaned, storable
from service.endpoint import Endpoint
from service.endpoints.routes import ENDPOINTS
from service.errors import Code, ServiceError
from service.jobs.queue import Jobs
from service.schemas.main_calls import AttackRequest, ClassifyRequest, GenerateRequest, PicturesRequest
from service.settings import Settings
from tests import tiny
from tests.service.conftest import arrays
from tests.service.databases import disposed_engines
from tests.service.in_process import Caller, door
from tests.service.models import api, compute_models

NUL, HALF = "a\0b", "a\ud800b"
PATHS = ["%00", "a%00", "%00a", "a%00b%0a", "%ed%a0%80", "%ff", "%F0%9F", quote("\x7f\x01"), quote("\ufffe\U0010ffff")]
NAMED = [route for route in ENDPOINTS if route.parameters and route.path != "/static/{file}"]
UNKNOWN = {"unknown_model", "unknown_dataset", "unknown_report", "method_not_allowed"}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What the routes ask, in this process, with a job database that a worker has seen."""
    folder = tmp_path_factory.mktemp("unstorable")
    tiny.linear(folder / "artifacts" / "linear")
    tiny.evalset(folder / "evalsets" / "tiny.npz")
    url = f"sqlite:///{folder / 'jobs.sqlite'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").database(f"names-{uuid.uuid4()}")
    DBOS.migrate(url)
    with disposed_engines():
        jobs = Jobs(url)
        jobs.database.migrate()
        settings = Settings(models=folder, state=folder, database_url=url, threads=1)
        yield SimpleNamespace(routes=api(settings), jobs=jobs, settings=settings)


@pytest.fixture
def call(service: Any) -> Caller:
    return Caller(door(service.routes))


def refused(answer: httpx.Response) -> str:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert "retry-after" not in answer.headers
    error = answer.json()["error"]
    return error if isinstance(error, str) else error["code"]


@pytest.mark.parametrize("route", NAMED, ids=lambda route: f"{route.method} {route.path}")
def test_in_a_path_it_is_a_name_that_nothing_has(call: Caller, route: Endpoint):
    for name in PATHS:
        path = re.sub(r"\{\w+\}", name, route.path)
        body = {"json": {"inputs": [{"name": "images", "shape": [1], "datatype": "FP32", "data": [0]}]}}
        told = refused(call(route.method, path, **(body if route.method == "POST" else {})))
        assert told in UNKNOWN or "is none of the models" in told


@pytest.mark.parametrize(
    "query", ["cursor=%00", "cursor=1.1%00", "status=%00", "limit=%00", "%00=1", "status=%ed%a0%80"]
)
def test_in_a_query(call: Caller, query: str):
    assert refused(call("GET", f"/robustness-report?{query}")) == "invalid"


@pytest.mark.parametrize("text", [NUL, "a", "\x7f", "\xff"])
def test_in_an_idempotency_key(service: Any, text: str):
    request = {"models": ["linear"], "dataset": "tiny", "n": 1, "threats": []}
    job, new = service.jobs.submit(request, {}, f"{text}{uuid.uuid4()}", 100)
    assert new
    assert service.jobs.get(job.id).request == request


ATTACK = {"attack": "pgd", "norm": "l2", "eps": 0.1, "images": arrays(1)}


@pytest.mark.parametrize("name", [NUL, "\0"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"images": arrays(1)}),
        ("/pictures", {"images": arrays(1)}),
        ("/generate", {}),
        ("/attack", ATTACK),
        ("/attack", {**ATTACK, "transfer_to": "linear"}),
    ],
)
def test_as_a_name_in_json(call: Caller, name: str, path: str, body: dict[str, Any]):
    swapped = {"model": body["transfer_to"], "transfer_to": [name]} if "transfer_to" in body else {"model": name}
    assert refused(call("POST", path, json={**body, **swapped})) == "unknown_model"


@pytest.mark.parametrize("name", [NUL, HALF, "\0", "\udfff"])
def test_as_a_name_that_is_looked_up(service: Any, name: str):
    services, models = service.routes.state.services, compute_models(service.settings)
    for find in (services.catalog.manifest, lambda name: models.classifier(name).__enter__()):
        with pytest.raises(ServiceError) as caught:
            find(name)
        assert caught.value.code is Code.UNKNOWN_MODEL
    with pytest.raises(ServiceError) as caught:
        services.evalsets.get(name)
    assert caught.value.code is Code.UNKNOWN_DATASET


@pytest.mark.parametrize("kind", [ClassifyRequest, PicturesRequest, GenerateRequest, AttackRequest])
def test_half_of_a_pair_is_no_json(kind: Any):
    with pytest.raises(ValueError, match="Invalid JSON"):
        kind.model_validate_json(b'{"model": "\\ud800"}')


@pytest.mark.parametrize(
    ("path", "field"), [("/models", "name"), ("/models", "classes"), ("/evalsets", "name"), ("/evalsets", "licence")]
)
@pytest.mark.parametrize("text", ["a\\u0000b", "a\\ud800b", "a\\udc00\\ud800"])
def test_in_the_settings_of_an_upload(call: Caller, path: str, field: str, text: str):
    value = f'["{text}", "b"]' if field == "classes" else f'"{text}"'
    fields = {"name": '"x"', field: value}
    said = "{" + ", ".join(f'"{name}": {given}' for name, given in fields.items()) + "}"
    parts = [("settings", said), ('file"; filename="f', "bytes")]
    body = "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{data}\r\n' for name, data in parts)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    told = refused(call("POST", path, content=f"{body}--x--\r\n".encode(), headers=headers))
    assert told == ("invalid" if "0000" in text else "malformed")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_in_the_classes_of_an_npz(name: str):
    buffer = io.BytesIO()
    images = np.zeros((2, 8, 8), np.uint8)
    np.savez(buffer, images=images, labels=np.array([0, 1]), classes=np.array([name, "b"]))
    with pytest.raises(InvalidInput, match="NUL or half of a surrogate pair") as caught:
        labelled_images.read(buffer.getvalue(), ImageSetSettings(name="x"))
    assert caught.value.field == "classes"
    json.dumps(str(caught.value), ensure_ascii=False).encode()  # the refusal itself can be sent


def test_a_reason_that_quotes_it_is_kept_all_the_same(service: Any):
    job, _ = service.jobs.submit({"models": [], "dataset": "tiny", "n": 1}, {}, None, 100)
    service.jobs.set_attributes(job.id, error=f"cannot read {NUL} and {HALF}", progress=0.5)
    told = service.jobs.attributes(job.id)
    assert told == {"error": "cannot read a\N{REPLACEMENT CHARACTER}b and a\N{REPLACEMENT CHARACTER}b", "progress": 0.5}


@given(st.text(st.characters(categories=None) | st.sampled_from("\0\ud800\udfff")))
@tried(derandomize=True)
def test_what_is_cleaned_can_be_held(text: str):
    assert storable(cleaned(text))
    assert storable(text) == (cleaned(text) == text)
    assert len(cleaned(text)) == len(text)
    assert "\0" not in cleaned(text)
    cleaned(text).encode()
