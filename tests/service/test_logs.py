"""One id in the answer's header, in its error envelope and in the log; a line of JSON for each, whoever wrote it."""

import json
import logging

import pytest

from service.observability.logs import Json
from service.request_context import CALL, Call
from tests.service.conftest import Server, wait_for


def line(message: str, **extra: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "some", "levelname": "INFO", "msg": message, **extra})
    return json.loads(Json().format(record))


def test_a_line_says_when_who_and_what():
    said = line("two\nlines", created=1.5, fields={"status": 200})
    assert said == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "INFO",
        "logger": "some",
        "message": "two\nlines",
        "status": 200,
    }


def test_whatever_is_said_within_a_request_has_its_id():
    token = CALL.set(Call("abc"))
    try:
        assert line("deep inside")["request_id"] == "abc"
    finally:
        CALL.reset(token)


def test_an_error_keeps_its_traceback_on_the_same_line():
    try:
        raise ValueError("broken")
    except ValueError as error:
        said = line("failed", exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: broken" in said["error"]


@pytest.mark.parametrize("given", ["my-id", None])
def test_the_answer_the_envelope_and_the_log_have_the_same_id(server: Server, given: str | None):
    headers = {} if given is None else {"X-Request-ID": given}
    answer = server.client.post("/classify", json={"model": "no such model", "images": []}, headers=headers)
    request_id = answer.headers["x-request-id"]
    assert answer.json()["error"]["request_id"] == request_id
    assert given in (None, request_id)
    (entry,) = wait_for(lambda: server.entries(request_id))
    assert (entry["method"], entry["route"], entry["status"]) == ("POST", "/classify", answer.status_code)
    assert entry["ms"] > 0


def test_no_log_line_holds_what_a_client_sent(server: Server):
    server.client.get("/models/a-secret-word")
    server.client.post("/classify", json={"model": "another-secret-word", "images": [], "surprise": "secret-three"})
    server.client.get("/livez", headers={"X-Request-ID": "the-last-one"})
    wait_for(lambda: server.entries("the-last-one"))
    assert "secret" not in server.written()
