"""GAUNTLET_METRICS_PORT: metrics on a port of their own, which the processes that answer share."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import httpx
import pytest

from service import monitoring_port
from service.monitoring_port import METRICS, MonitoringPort, check_metrics_port, metrics_page, open_metrics_port
from service.observability.exposition import CollectorRegistry, Gauge
from service.settings import Settings, SettingsError
from tests.ports import free_port
from tests.service.in_process import LINES, SECRETS, Caller, door, told

HOST = IPv4Address("127.0.0.1")


@pytest.fixture
def opened(monkeypatch) -> Iterator[list[MonitoringPort]]:
    """Those that the test opens, which are closed after it."""
    made: list[MonitoringPort] = []

    class Noted(MonitoringPort):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(monitoring_port, "MonitoringPort", Noted)
    yield made
    for port in made:
        port.shutdown()
        port.server_close()


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Gauge("answer", "Of everything", registry=made).set(42)
    return made


def test_several_processes_answer_on_it_and_only_the_metrics(opened: list[MonitoringPort]):
    settings = Settings(metrics_port=free_port())
    check_metrics_port(settings)
    opened.clear()  # closed already
    for _ in range(2):
        open_metrics_port(settings, registry())
    address = f"http://127.0.0.1:{settings.metrics_port}"
    assert "answer 42.0" in httpx.get(f"{address}/metrics").text
    assert httpx.get(f"{address}/models").status_code == 404


def test_it_asks_for_a_key_where_keys_are_in_use_unless_metrics_are_open(opened: list[MonitoringPort]):
    statuses = []
    for metrics_open in (False, True):
        settings = Settings(metrics_port=free_port(), api_keys=LINES, metrics_open=metrics_open)
        open_metrics_port(settings, registry())
        address = f"http://127.0.0.1:{settings.metrics_port}/metrics"
        statuses += [httpx.get(address).status_code]
        statuses += [httpx.get(address, headers={"X-API-Key": SECRETS["read"]}).status_code]
    assert statuses == [401, 200, 200, 200]


def test_a_taken_port_is_named_at_the_start():
    port = free_port()
    with MonitoringPort("X", HOST, port, {METRICS: metrics_page(registry())}, None, shared=True) as other:
        with pytest.raises(SettingsError, match=f"GAUNTLET_METRICS_PORT={port}: cannot be used"):
            check_metrics_port(Settings(metrics_port=port))
        other.shutdown()


def test_the_public_port_has_no_metrics_then(settings):
    assert Caller(door())("GET", "/metrics").status_code == 200
    settings(metrics_port=3002, api_keys=LINES)
    assert told(Caller(door())("GET", "/metrics", key=SECRETS["read"]))["code"] == "not_found"
