"""Who is refused while still sending can read why: real sockets, a real server around the service's layers."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import uvicorn
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from service.middleware import body_limits
from service.middleware.body_limits import BodyLimits, RequestBody
from tests.service.in_process import LINES, door

LARGE = bytes(24 * 2**20)  # more than the sockets' buffers hold
JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    """The port of a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, http="httptools", lifespan="off", log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask(port: int, path: str, headers: dict[str, str], method: str = "POST") -> tuple[int, str]:
    """As Python's urllib does: it sends all, and reads then."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", LARGE, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, "no refusal"
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["code"]


REFUSALS: list[tuple[dict[str, Any], str, dict[str, str], tuple[int, str]]] = [
    ({"api_keys": LINES}, "/classify", JSON, (401, "unauthenticated")),
    ({}, "/classify", {**JSON, "Origin": "https://page.example"}, (403, "forbidden")),
    ({}, "/nothing", JSON, (404, "not_found")),
    ({}, "/attacks", JSON, (405, "method_not_allowed")),
    ({"max_body": 1000}, "/classify", JSON, (413, "too_large")),
    ({"max_upload": 1000}, "/models", {"Content-Type": "multipart/form-data; boundary=x"}, (413, "too_large")),
    ({}, "/classify", {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
    ({}, "/classify", {**JSON, "Content-Encoding": "br"}, (415, "unsupported_media_type")),
    ({"max_bodies": 1000}, "/classify", JSON, (503, "overloaded")),
]


@pytest.mark.parametrize(("chosen", "path", "headers", "told"), REFUSALS, ids=[str(row[3][0]) for row in REFUSALS])
def test_a_client_that_is_still_sending_reads_why(
    settings: Callable[..., None], chosen: dict[str, Any], path: str, headers: dict[str, str], told: tuple[int, str]
):
    settings(**chosen)
    with served(door()) as port:
        assert ask(port, path, headers) == told


def test_so_does_one_that_asks_too_often(settings: Callable[..., None]):
    settings(requests_per_minute=1)
    with served(door()) as port:
        assert ask(port, "/classify", JSON)[0] == 200
        assert ask(port, "/classify", JSON) == (429, "rate_limited")


def test_so_does_one_whose_body_nobody_reads():
    async def unread(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"error": {"code": "report_ended"}}, 409)(scope, receive, send)

    with served(door(unread)) as port:
        assert ask(port, "/robustness-report/x/cancel", JSON)[0] == 409


def test_so_does_one_that_does_not_say_how_long_it_is(settings: Callable[..., None]):
    settings(max_body=1000)
    with served(door()) as port, socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n")
        client.sendall(b"Content-Type: application/json\r\n\r\n")
        for _ in range(24):
            client.sendall(b"100000\r\n" + bytes(2**20) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert json.loads(answer.read())["error"]["code"] == "too_large"


def test_a_connection_whose_body_was_read_on_is_used_again(settings: Callable[..., None]):
    settings(max_body=1000)
    with served(door()) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for content, status in ((LARGE, 413), (b"{}", 200)):
            client.request("POST", "/classify", content, JSON)
            answer = client.getresponse()
            assert (answer.status, answer.getheader("connection")) == (status, None)
            answer.read()
            used = client.sock
        assert client.sock is used is not None
        client.close()


def test_who_asks_before_sending_is_refused_at_once(settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_limits, "QUIET", 3600.0)
    settings(max_body=1000)
    with served(door()) as port, socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n")
        client.sendall(b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))  # to its end: the server hangs up
        assert answer.startswith(b"HTTP/1.1 413 ")


# How much is read on


def read_on(messages: Any, headers: dict[str, str], seconds: float = 60) -> RequestBody:
    """A body after nothing of it was wanted."""

    async def receive() -> Any:
        message = next(messages, None)
        return message if message is not None else await anyio.sleep_forever()

    async def main() -> RequestBody:
        made = RequestBody(receive, BodyLimits(10, 10, seconds), Headers(headers))
        await made.discard()
        return made

    return asyncio.run(main())


def parts(count: int, size: int = 1000) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {"type": "http.request", "body": bytes(size), "more_body": i < count - 1}


def test_no_more_is_read_than_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_limits, "DISCARDED", 5000)
    messages = parts(100)
    assert not read_on(messages, {"Transfer-Encoding": "chunked"}).whole
    assert len(list(messages)) == 95


def test_all_is_read_where_it_is_not_too_much():
    messages = parts(100)
    assert read_on(messages, {"Content-Length": "100000"}).whole
    assert list(messages) == []


def test_who_says_no_more_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_limits, "QUIET", 0.01)
    assert not read_on(iter([]), {"Content-Length": "10"}).whole


def test_who_takes_too_long_is_not_waited_for():
    assert not read_on(iter([]), {"Content-Length": "10"}, seconds=0.01).whole


def test_who_has_hung_up_is_not_waited_for():
    assert read_on(iter([{"type": "http.disconnect"}]), {"Content-Length": "10"}).whole


@pytest.mark.parametrize(
    ("headers", "endless"),
    [
        ({}, False),
        ({"Content-Length": "0"}, False),
        ({"Content-Length": "1000"}, False),
        ({"Content-Length": str(10**12)}, True),
        ({"Transfer-Encoding": "chunked"}, True),
        ({"Content-Length": "1000", "Expect": "100-continue"}, True),
    ],
)
def test_a_connection_is_given_up_only_where_the_rest_may_not_be_read(headers: dict[str, str], endless: bool):
    async def main() -> bool:
        return RequestBody(anyio.sleep_forever, BodyLimits(10, 10, 60), Headers(headers)).endless

    assert asyncio.run(main()) == endless
