"""What nobody expected: the one envelope, and one traceback in the log of the process in which it was raised."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service import app
from service.compute import app as compute_app
from service.endpoints.compute_client import ComputeClient
from service.endpoints.routes import ENDPOINTS
from service.observability.logs import LOGGER
from service.settings import Settings
from tests import tiny
from tests.service.in_process import Caller, door, told

ID = {"X-Request-ID": "mine"}


def failing(_: Request) -> Response:
    raise KeyError("nobody expected this")


async def reading(request: Request) -> Response:
    return Response(await request.body())


@pytest.fixture
def tracebacks(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(LOGGER, "propagate", True)
    format_record = logging.Formatter().format
    return lambda: [format_record(record) for record in caplog.records if record.exc_info]


@pytest.fixture
def compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    """The application of the compute process, two of whose handlers are our own."""
    tiny.linear(tmp_path / "models/artifacts/linear")
    (tmp_path / "models/evalsets").mkdir()
    monkeypatch.setattr(
        compute_app, "ROUTES", [Route("/attacks", failing), Route("/attack", reading, methods=["POST"])]
    )
    monkeypatch.setattr(compute_app, "_prove", lambda _: None)
    return compute_app.open_compute(Settings(models=tmp_path / "models", state=tmp_path, data=tmp_path, threads=1))


def check(answer: httpx.Response, tracebacks: list[str]) -> None:
    assert answer.headers["content-type"] == "application/json"
    error = told(answer)
    assert (error["code"], error["request_id"]) == ("internal", "mine")
    (logged,) = tracebacks
    assert logged.startswith("request mine failed\nTraceback")
    assert "in failing" in logged
    assert "nobody expected this" in logged


def test_in_a_process_that_answers(tracebacks, monkeypatch):
    monkeypatch.setattr(app, "ENDPOINTS", [replace(endpoint, handler=failing) for endpoint in ENDPOINTS])
    check(Caller(door(app.routes()))("GET", "/models", headers=ID), tracebacks())


def test_in_the_process_that_computes(tracebacks, compute: ASGIApp):
    routes = app.routes()
    client = ComputeClient(httpx.ASGITransport(compute), lambda: True)
    routes.state.services = SimpleNamespace(compute=client)
    check(Caller(door(routes))("GET", "/attacks", headers=ID), tracebacks())


def test_an_api_process_that_hangs_up_is_no_error_of_the_compute_process(tracebacks, compute: ASGIApp):
    """As it does when its own client hangs up."""
    sent: list[Any] = []

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/attack", "headers": [], "query_string": b""}
        await compute(scope, receive, send)

    anyio.run(main)
    assert sent[0]["status"] == 499
    assert tracebacks() == []
