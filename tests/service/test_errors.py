import base64
import codecs
import gzip
import json
import re
import urllib.error
import urllib.request
from typing import Any

import httpx
import numpy as np
import pytest

from service.errors import STATUS, Code
from service.schemas.main_calls import Envelope
from tests.service.conftest import MAX_BODY, Server, arrays, encoded, pngs, wait_for

JSON = {"Content-Type": "application/json"}
CLASSIFY = {"model": "linear", "images": arrays(1)}
GENERATE = {"model": "gen"}
PICTURES = {"model": "linear", "images": arrays(1)}
CERTIFY = {"model": "linear", "images": arrays(2), "eps": 0.01, "budget_seconds": 5.0}
ATTACK = {"model": "linear", "attack": "pgd", "images": arrays(2), "norm": "l2", "eps": 0.1}
REPORT = {
    "models": ["linear"],
    "dataset": "tiny",
    "n": 5,
    "attacks": ["pgd"],
    "threats": [{"norm": "l2", "eps": [0.1]}],
}
PNG = pngs(1)[0]
TEXT = base64.b64encode(b"this is no image").decode()
BOMB = encoded(np.zeros((6000, 6000), np.uint8))
NINE = arrays(1)[0] + arrays(1)[0]

BAD: list[tuple[str, dict[str, Any], dict[str, Any], Code, str]] = [
    ("/classify", CLASSIFY, {"model": "nope"}, Code.UNKNOWN_MODEL, "model"),
    ("/classify", CLASSIFY, {"model": "gen"}, Code.WRONG_KIND, "model"),
    ("/classify", CLASSIFY, {"model": None}, Code.INVALID, "model"),
    ("/classify", CLASSIFY, {"surprise": 1}, Code.INVALID, "surprise"),
    ("/classify", CLASSIFY, {"images": []}, Code.INVALID, "images"),
    ("/classify", CLASSIFY, {"images": ["x"] * 10_000}, Code.INVALID, "images"),
    ("/classify", CLASSIFY, {"images": [3]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [[[[2.0] * 8] * 8]]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [[[[-0.1] * 8] * 8]]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [arrays(1)[0], [[1e39] * 8] * 8]}, Code.INVALID, "images.1"),
    ("/classify", CLASSIFY, {"images": [[[10**400] * 8] * 8]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [arrays(1)[0], [[0.5] * 8] * 7]}, Code.INVALID, "images.1"),
    ("/classify", CLASSIFY, {"images": [[[["a"] * 8] * 8]]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [[[0.5], [0.5, 0.5]]]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [NINE]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [[]]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [PNG, PNG[:-3]]}, Code.INVALID, "images.1"),
    ("/classify", CLASSIFY, {"images": ["!!"]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [PNG, "\u00e9\u00e9\u00e9\u00e9"]}, Code.INVALID, "images.1"),
    ("/classify", CLASSIFY, {"resize": 0}, Code.INVALID, "resize"),
    ("/classify", CLASSIFY, {"images": [PNG, TEXT]}, Code.INVALID, "images.1"),
    ("/classify", CLASSIFY, {"images": [PNG[:40]]}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": [BOMB], "resize": True}, Code.INVALID, "images.0"),
    ("/classify", CLASSIFY, {"images": ["http://127.0.0.1/x.png"]}, Code.INVALID, "images.0"),
    ("/generate", GENERATE, {"model": "linear"}, Code.WRONG_KIND, "model"),
    ("/generate", GENERATE, {"n": 0}, Code.INVALID, "n"),
    ("/generate", GENERATE, {"n": 10**9}, Code.INVALID, "n"),
    ("/generate", GENERATE, {"seed": False}, Code.INVALID, "seed"),
    ("/generate", GENERATE, {"seed": "1"}, Code.INVALID, "seed"),
    ("/generate", GENERATE, {"seed": -1}, Code.INVALID, "seed"),
    ("/generate", GENERATE, {"format": "gif"}, Code.INVALID, "format"),
    ("/generate", GENERATE, {"latents": [[0.0] * 4, [0.0] * 3]}, Code.INVALID, "latents.1"),
    ("/generate", GENERATE, {"latents": [[0.0] * 4, [0.0] * 3 + [1e39]]}, Code.INVALID, "latents.1.3"),
    ("/pictures", PICTURES, {"images": [PNG, TEXT]}, Code.INVALID, "images.1"),
    ("/pictures", PICTURES, {"invert": 1}, Code.INVALID, "invert"),
    ("/attack", ATTACK, {"attack": "nope"}, Code.UNKNOWN_ATTACK, "attack"),
    ("/attack", ATTACK, {"model": "gen"}, Code.WRONG_KIND, "model"),
    ("/attack", ATTACK, {"norm": "l7"}, Code.INVALID, "norm"),
    ("/attack", ATTACK, {"attack": "ddn", "norm": "linf"}, Code.INVALID, "norm"),
    ("/attack", ATTACK, {"eps": False}, Code.INVALID, "eps"),
    ("/attack", ATTACK, {"eps": -0.1}, Code.INVALID, "eps"),
    ("/attack", ATTACK, {"eps": 1e39}, Code.INVALID, "eps"),
    ("/attack", ATTACK, {"labels": [0, 10**400]}, Code.INVALID, "labels.1"),
    ("/attack", ATTACK, {"params": {"relative_step": 1e39}}, Code.INVALID, "params.relative_step"),
    ("/attack", ATTACK, {"images": [arrays(1)[0], [[1e39] * 8] * 8]}, Code.INVALID, "images.1"),
    ("/attack", ATTACK, {"eps": None}, Code.INVALID, "eps"),
    ("/attack", ATTACK, {"labels": [0]}, Code.INVALID, "labels"),
    ("/attack", ATTACK, {"labels": [0, 3]}, Code.INVALID, "labels.1"),
    ("/attack", ATTACK, {"labels": [0, -1]}, Code.INVALID, "labels.1"),
    ("/attack", ATTACK, {"labels": [0, 1], "target_labels": [1, 1]}, Code.INVALID, "target_labels.1"),
    ("/attack", ATTACK, {"params": {"steps": 0}}, Code.INVALID, "params.steps"),
    ("/attack", ATTACK, {"params": {"stride": 1}}, Code.INVALID, "params.stride"),
    ("/attack", ATTACK, {"transfer_to": ["nope"]}, Code.UNKNOWN_MODEL, "transfer_to.0"),
    ("/attack", ATTACK, {"transfer_to": ["conv", "gen"]}, Code.WRONG_KIND, "transfer_to.1"),
    ("/attack", ATTACK, {"images": pngs(1) * 3000}, Code.TOO_EXPENSIVE, "images"),
    ("/certify", CERTIFY, {"model": "nope"}, Code.UNKNOWN_MODEL, "model"),
    ("/certify", CERTIFY, {"model": "gen"}, Code.WRONG_KIND, "model"),
    ("/certify", CERTIFY, {"norm": "l1"}, Code.INVALID, "norm"),
    ("/certify", CERTIFY, {"method": "magic"}, Code.INVALID, "method"),
    ("/certify", CERTIFY, {"eps": -0.1}, Code.INVALID, "eps"),
    ("/certify", CERTIFY, {"labels": [0, 3]}, Code.INVALID, "labels.1"),
    ("/certify", CERTIFY, {"images": [PNG, TEXT]}, Code.INVALID, "images.1"),
    ("/certify", CERTIFY, {"budget_seconds": 0}, Code.INVALID, "budget_seconds"),
    ("/certify", CERTIFY, {"budget_seconds": 2999.0}, Code.TOO_EXPENSIVE, "budget_seconds"),
    ("/robustness-report", REPORT, {"models": ["linear", "nope"]}, Code.UNKNOWN_MODEL, "models.1"),
    ("/robustness-report", REPORT, {"models": ["gen"]}, Code.WRONG_KIND, "models.0"),
    ("/robustness-report", REPORT, {"models": []}, Code.INVALID, "models"),
    ("/robustness-report", REPORT, {"attacks": ["nope"]}, Code.UNKNOWN_ATTACK, "attacks.0"),
    ("/robustness-report", REPORT, {"dataset": "nope"}, Code.UNKNOWN_DATASET, "dataset"),
    ("/robustness-report", REPORT, {"n": 0}, Code.INVALID, "n"),
    ("/robustness-report", REPORT, {"n": True}, Code.INVALID, "n"),
    ("/robustness-report", REPORT, {"smoothing": {"samples": "100"}}, Code.INVALID, "smoothing.samples"),
    ("/robustness-report", REPORT, {"n": 41}, Code.INVALID, "n"),
    ("/robustness-report", REPORT, {"threats": [{"norm": "l2", "eps": [-1.0]}]}, Code.INVALID, "threats.0.eps.0"),
    ("/robustness-report", REPORT, {"surprise": 1}, Code.INVALID, "surprise"),
]


def told(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer that is a proper envelope."""
    error = Envelope.model_validate(answer.json()).error
    assert answer.status_code == STATUS[error.code]
    assert answer.headers["x-request-id"] == error.request_id
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "base", "change", "code", "field"), BAD, ids=[f"{i}-{bad[3]}-{bad[4]}" for i, bad in enumerate(BAD)]
)
def test_a_bad_value_is_named(client: httpx.Client, path: str, base: dict, change: dict, code: Code, field: str):
    error = told(client.post(path, json={**base, **change}))
    assert (error["code"], error["details"]["field"]) == (code, field)


def test_a_default_that_a_bad_value_prevents_is_no_problem_of_its_own(client: httpx.Client):
    error = told(client.post("/robustness-report", json={"models": ["linear"], "dataset": "tiny", "n": 0}))
    assert [problem["field"] for problem in error["details"]["problems"]] == ["n"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (
            b'{"model": "linear", "images": [[' + b"[NaN" + b", 0.5" * 7 + b"]" + b", [0.5" * 0 + b"]]}",
            "invalid",
            "images.0",
        ),
        (b'{"model": "linear", "images": [[[Infinity]]]}', "invalid", "images.0"),
        (b'{"model": ', "malformed", None),
        (b"[1]", "invalid", None),
        (b"", "invalid", "model"),
        (b"\xff\xfe", "malformed", None),
        (b"[" * 5000, "malformed", None),
    ],
)
def test_bodies_that_are_no_request(client: httpx.Client, body: bytes, code: str, field: str | None):
    error = told(client.post("/classify", content=body, headers={"Content-Type": "application/json"}))
    assert error["code"] == code
    assert (error["details"] or {}).get("field") == field


def test_a_nan_pixel_is_an_error_of_that_image(client: httpx.Client):
    rows = ",".join(["[" + ",".join(["0.5"] * 8) + "]"] * 7 + ["[" + ",".join(["NaN"] * 8) + "]"])
    body = '{"model": "linear", "images": [[[' + rows[1:-1] + "]]]}"
    error = told(client.post("/classify", content=body, headers={"Content-Type": "application/json"}))
    assert error["details"]["field"] == "images.0"
    assert "finite" in error["message"]


def test_an_infinite_eps_is_refused(client: httpx.Client):
    body = '{"model": "linear", "attack": "pgd", "images": [], "norm": "l2", "eps": Infinity}'
    error = told(client.post("/attack", content=body, headers={"Content-Type": "application/json"}))
    assert {problem["field"] for problem in error["details"]["problems"]} == {"images", "eps"}


@pytest.mark.parametrize(
    "media",
    ["application/vnd.bentoml+pickle", "multipart/form-data", "application/x-www-form-urlencoded", "text/plain"],
)
def test_only_json_is_read(client: httpx.Client, media: str):
    answer = client.post("/classify", content=b"cos\nsystem\n(S'true'\ntR.", headers={"Content-Type": media})
    assert told(answer)["code"] == "unsupported_media_type"


def test_a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not(client: httpx.Client):
    body = b'{"model": "' + b"x" * MAX_BODY + b'"}'
    headers = {"Content-Type": "application/json"}
    assert told(client.post("/classify", content=body, headers=headers))["code"] == "too_large"
    chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))
    assert told(client.post("/classify", content=chunks, headers=headers))["code"] == "too_large"


def test_pythons_own_client_reads_that_its_body_is_too_large(server: Server):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.client.base_url}/classify", bytes(16 * MAX_BODY), headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    with refused.value as answer:
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/classify", "/generate", "/attack", "/pictures"])
def test_compressed_json_is_read_everywhere(client: httpx.Client, path: str):
    body = {"/classify": CLASSIFY, "/generate": {**GENERATE, "seed": 1}, "/attack": ATTACK, "/pictures": PICTURES}[path]
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = client.post(f"{path}/", content=gzip.compress(json.dumps(body).encode()), headers=headers)
    assert packed.status_code == 200, packed.text
    marked = client.post(path, content=codecs.BOM_UTF8 + json.dumps(body).encode(), headers=JSON)
    answers = [answer.json() for answer in (packed, marked, client.post(path, json=body))]
    for answer in answers:
        answer.pop("summary", None)  # has the time that it took
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", "not_found"),
        ("GET", "/docs.json", "not_found"),
        ("GET", "/static_content/index.html", "not_found"),
        ("GET", "/models/nope", "unknown_model"),
        ("GET", "/robustness-report/nope", "unknown_report"),
        ("GET", "/robustness-report/nope/html", "unknown_report"),
        ("POST", "/robustness-report/nope/cancel", "unknown_report"),
        ("DELETE", "/robustness-report/nope", "unknown_report"),
        ("GET", "/robustness-report?limit=0", "invalid"),
        ("GET", "/robustness-report?status=lost", "invalid"),
        ("GET", "/robustness-report?surprise=1", "invalid"),
        ("GET", "/robustness-report?cursor=x", "invalid"),
        ("GET", "/robustness-report?cursor=1.-1", "invalid"),
        ("GET", "/models/reload", "method_not_allowed"),
        ("GET", "/classify", "method_not_allowed"),
        ("POST", "/attacks", "method_not_allowed"),
        ("PUT", "/readyz", "method_not_allowed"),
        ("OPTIONS", "/classify", "method_not_allowed"),
    ],
)
def test_paths_and_methods(client: httpx.Client, method: str, path: str, code: str):
    answer = client.request(method, path)
    assert told(answer)["code"] == code
    assert ("allow" in answer.headers) == (code == "method_not_allowed")


def test_a_request_id_is_kept_if_it_is_sane(client: httpx.Client):
    assert client.get("/livez", headers={"X-Request-ID": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    made = client.get("/livez", headers={"X-Request-ID": "no spaces please"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


def test_one_log_line_a_request_and_no_content(server: Server):
    server.client.post("/classify", json={**CLASSIFY, "surprise": PNG}, headers={"X-Request-ID": "the-line"})
    server.client.post("/classify", json={"model": "linear", "images": [PNG]}, headers={"X-Request-ID": "the-line"})
    wait_for(lambda: len(server.entries("the-line")) >= 2)  # written once the answer is on its way
    messages = [entry["message"] for entry in server.entries("the-line")]
    assert [message.split()[:3] for message in messages] == [["POST", "/classify", "422"], ["POST", "/classify", "200"]]
    assert PNG[:40] not in server.written()
    assert "Traceback" not in server.written()
