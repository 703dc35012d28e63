"""What a trace says of a request: the span that BentoML's middleware opens, around the request gate, no server."""

import asyncio
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from service.middleware.request_gate import RequestGate
from service.observability.logs import LOGGER, Json
from tests.service.conftest import ROOT


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Json())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines(monkeypatch):
    handler = Lines()
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    monkeypatch.setattr(LOGGER, "level", logging.INFO)
    LOGGER.manager._clear_cache()
    return handler.lines


def ask(sampler: Sampler, path: str, **headers: str) -> tuple[InMemorySpanExporter, str]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = Starlette(routes=[Route("/models/{name}", lambda _: PlainTextResponse("here"))])
    transport = httpx.ASGITransport(OpenTelemetryMiddleware(RequestGate(app), tracer_provider=provider))

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    answer = asyncio.run(get())
    return exporter, answer.headers["x-request-id"]


def test_a_span_is_named_by_its_route_and_knows_the_request(lines):
    exporter, request_id = ask(ALWAYS_ON, "/models/some-name", **{"X-Request-ID": "mine"})
    (span,) = [span for span in exporter.get_finished_spans() if span.kind.name == "SERVER"]
    assert span.name == "GET /models/{name}"
    assert span.attributes["http.route"] == "/models/{name}"
    assert span.attributes["gauntlet.request_id"] == request_id == "mine"
    assert f'"trace_id": "{span.context.trace_id:032x}"' in lines[-1]


def test_a_trace_that_came_with_the_request_goes_on():
    trace = "0af7651916cd43dd8448eb211c80319c"
    exporter, _ = ask(ALWAYS_ON, "/models/x", traceparent=f"00-{trace}-b7ad6b7169203331-01")
    assert {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()} == {trace}


def test_paths_that_do_not_exist_share_one_name():
    exporter, _ = ask(ALWAYS_ON, "/wp-admin")
    assert "GET other" in {span.name for span in exporter.get_finished_spans()}


def test_what_is_not_sampled_is_not_named_in_the_log(lines):
    exporter, request_id = ask(ALWAYS_OFF, "/models/x")
    assert not exporter.get_finished_spans()
    assert request_id in lines[-1]
    assert "trace_id" not in lines[-1]


EXPORTER = """
class OTLPSpanExporter:
    def __init__(self, endpoint, compression, timeout, certificate_file, headers): self.endpoint = endpoint
    def export(self, spans): print(self.endpoint, *(span.name for span in spans))
    def shutdown(self): pass
"""
PROGRAM = """
from bentoml._internal.configuration.containers import BentoMLContainer
provider = BentoMLContainer.tracer_provider.get()
for i in range(100):
    with provider.get_tracer("test").start_as_current_span("some-span"): pass
provider.force_flush()
"""


def test_the_documented_setting_sends_a_share_of_the_spans_to_the_collector(tmp_path: Path):
    """With an exporter of our own in the place of the one that is not installed."""
    folder = tmp_path / "opentelemetry" / "exporter" / "otlp" / "proto" / "http" / "trace_exporter"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(EXPORTER)
    (options,) = re.findall(r"BENTOML_CONFIG_OPTIONS='(.*)'", (ROOT / "docs" / "operations.md").read_text())
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "BENTOML_CONFIG_OPTIONS": options}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[0] == "http://127.0.0.1:4318/v1/traces"
    assert 0 < words.count("some-span") < 50
