"""What the client repeats and what it gives up, without a server."""

import httpx
import pytest

from gauntlet_client import Client, ClientError, ModelNotReady, ReportNotDone, ServiceError

QUICK = {"pause": 0.0, "retries": 2}
WHERE = {
    "id": "7",
    "models": ["a"],
    "dataset": "d",
    "n": 1,
    "progress": 0.5,
    "eta_seconds": 3.0,
    "created_at": "now",
    "sound": None,
    "status_url": "/",
    "report_url": "/",
}


def service(*answers: httpx.Response | Exception, **options) -> tuple[Client, list[httpx.Request]]:
    """One that gives these answers in turn, and what it was asked."""
    asked, left = [], iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return Client("http://gauntlet", transport=httpx.MockTransport(answer), **{**QUICK, **options}), asked


def error(status: int, code: str, wait: str | None = None, **details) -> httpx.Response:
    body = {"error": {"code": code, "message": "because", "details": details or None, "request_id": "r1"}}
    return httpx.Response(status, json=body, headers={} if wait is None else {"Retry-After": wait})


def done() -> httpx.Response:
    return httpx.Response(200, json={"attacks": []})


def standing(status: str, **more) -> httpx.Response:
    return httpx.Response(200, json={**WHERE, "status": status, "error": None, "report": None, **more})


def test_a_busy_service_and_a_broken_connection_are_asked_again():
    client, asked = service(error(503, "overloaded", "0"), httpx.ReadError("reset"), done())
    assert client.attacks() == []
    assert len(asked) == 3


def test_the_last_refusal_is_told_in_full():
    client, asked = service(*[error(429, "too_busy", "0", field="images")] * 3)
    with pytest.raises(ServiceError, match="because") as raised:
        client.attacks()
    assert (raised.value.status, raised.value.code, raised.value.field) == (429, "too_busy", "images")
    assert raised.value.request_id == "r1"
    assert len(asked) == 3


@pytest.mark.parametrize("answer", [error(429, "quota_exceeded", "86400"), error(422, "invalid"), error(404, "x")])
def test_what_will_not_change_soon_is_not_asked_again(answer):
    client, asked = service(answer)
    with pytest.raises(ServiceError):
        client.attacks()
    assert len(asked) == 1


def test_a_report_that_has_to_be_asked_for_twice_is_one_report():
    accepted = {"id": "7", "status": "queued", "status_url": "/", "report_url": "/"}
    client, asked = service(httpx.ReadError("reset"), httpx.Response(202, json=accepted))
    assert client.submit(["a"], "b", n=3).id == "7"
    assert asked[0].headers["Idempotency-Key"] == asked[1].headers["Idempotency-Key"]


def test_an_upload_whose_answer_was_lost_is_not_sent_again():
    client, asked = service(httpx.ReadError("reset"))
    with pytest.raises(ClientError, match="POST http://gauntlet/models: reset"):
        client.add_model(b"onnx", name="mine")
    assert len(asked) == 1
    client, asked = service(httpx.ConnectError("refused"), error(409, "name_taken"))  # nothing was sent
    with pytest.raises(ServiceError) as raised:
        client.add_model(b"onnx", name="mine")
    assert raised.value.code == "name_taken"
    assert len(asked) == 2


def test_an_answer_that_is_not_the_services_is_an_error_too():
    client, _ = service(httpx.Response(404, text="<html>a proxy"))
    with pytest.raises(ServiceError, match="Not Found"):
        client.attacks()


def test_a_key_goes_with_every_request():
    client, asked = service(done(), key="secret")
    client.attacks()
    assert asked[0].headers["Authorization"] == "Bearer secret"


def test_readiness_is_told_without_waiting_for_it():
    client, asked = service(error(503, "not_ready", "2", components={"worker": "none is alive"}))
    assert client.not_ready() == {"worker": "none is alive"}
    assert len(asked) == 1


def test_waiting_tells_the_progress_and_ends_with_what_became_of_the_report():
    client, _ = service(standing("queued"), standing("running"), standing("failed", error="the disk is full"))
    seen = []
    with pytest.raises(ReportNotDone, match="failed: the disk is full") as raised:
        client.wait("7", every=0, progress=lambda status: seen.append(status.status))
    assert seen == ["queued", "running", "failed"]
    assert raised.value.report.error == "the disk is full"
    client, _ = service(standing("running"))
    with pytest.raises(ReportNotDone, match="running after 0 s"):
        client.wait("7", timeout=0)


OPENING = {"name": "mine", "state": "opening", "stage": "converting", "progress": 0.1, "error": None}
CERTIFICATE = {"lipschitz": 2.0, "reason": "proved", "steepest": 1.0, "looseness": 2.0}
MANIFEST = {
    "name": "mine",
    "family": "custom",
    "dataset": "own",
    "metrics": {},
    "files": {"model.onnx": "0" * 64},
    "training": None,
    "kind": "classifier",
    "input_shape": [1, 8, 8],
    "classes": ["a", "b"],
}


def test_a_model_that_takes_long_is_waited_for(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"onnx")
    ready = {**MANIFEST, "state": "ready", "certificate": CERTIFICATE}
    opening = [httpx.Response(status, json=OPENING) for status in (202, 200)]
    client, asked = service(*opening, httpx.Response(200, json=ready))
    seen = []
    added = client.add_model(tmp_path / "m.onnx", name="mine", every=0, progress=lambda one: seen.append(one.stage))
    assert (added.manifest.name, added.certificate.lipschitz) == ("mine", 2.0)
    assert seen == ["converting"] * 2
    assert [request.url.path for request in asked] == ["/models", "/models/mine", "/models/mine"]


def test_a_model_that_is_refused_later_or_takes_too_long_is_an_error():
    refused = {**OPENING, "state": "failed", "error": {"code": "invalid", "message": "no classifier", "details": None}}
    client, _ = service(httpx.Response(202, json=OPENING), httpx.Response(200, json=refused))
    with pytest.raises(ModelNotReady, match="failed: no classifier") as raised:
        client.add_model(b"onnx", name="mine", every=0)
    assert raised.value.opening.error.code == "invalid"
    client, _ = service(httpx.Response(202, json=OPENING))
    with pytest.raises(ModelNotReady, match="still converting after 0 s"):
        client.add_model(b"onnx", name="mine", timeout=0)


def test_all_pages_of_reports_are_read():
    items = [{**WHERE, "id": name, "status": "queued", "error": None} for name in "ab"]
    pages = [{"items": [item], "next_cursor": cursor} for item, cursor in zip(items, ("more", None), strict=True)]
    client, asked = service(*[httpx.Response(200, json=page) for page in pages])
    assert [item.id for item in client.reports("queued")] == ["a", "b"]
    assert asked[1].url.params["cursor"] == "more"
