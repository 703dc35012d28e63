"""What a worker tells on its own port. The common server's worker is asked; hangs are tried without one."""

import time
from ipaddress import IPv4Address

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gauntlet.errors import Cancelled
from service.monitoring_port import MonitoringPort
from service.observability import worker_metrics
from service.observability.worker_metrics import HUNG, LIVENESS, REGISTRY
from service.settings import SettingsError
from service.worker import PAGES
from tests.service.conftest import SHORT_REPORT, Server, free_port


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(worker_metrics, "LIVENESS", worker_metrics.Liveness())
    port = free_port()
    with MonitoringPort("GAUNTLET_WORKER_PORT", IPv4Address("127.0.0.1"), port, PAGES, None) as probe:
        yield port
        probe.shutdown()


def livez(port: int) -> tuple[int, str]:
    answer = httpx.get(f"http://127.0.0.1:{port}/livez")
    return answer.status_code, answer.text.strip()


def test_a_worker_that_moves_is_alive_and_one_that_does_not_says_what_stopped(port: int, monkeypatch):
    liveness, now = worker_metrics.LIVENESS, time.monotonic()
    assert livez(port) == (200, "alive")
    monkeypatch.setattr(worker_metrics.time, "monotonic", lambda: now + HUNG + 10)
    status, reason = livez(port)
    assert (status, "main loop" in reason) == (503, True)
    liveness.loop_turned("failed")
    assert livez(port) == (200, "alive")  # nothing is under way
    monkeypatch.setattr(worker_metrics.time, "monotonic", lambda: now)
    with liveness.computing():
        monkeypatch.setattr(worker_metrics.time, "monotonic", lambda: now + HUNG + 10)
        liveness.loop_turned("told")
        status, reason = livez(port)
        assert (status, "has not moved" in reason) == (503, True)
        liveness.computation_moved()
        assert livez(port)[0] == 200


def end(error: Exception) -> None:
    with LIVENESS.computing():
        assert value("gauntlet_worker_busy") == 1
        raise error


def test_a_worker_is_busy_until_the_computation_ends_however_it_does():
    for error in (Cancelled("no longer wanted"), ValueError("broken")):
        with pytest.raises(type(error)):
            end(error)
        assert value("gauntlet_worker_busy") == 0


def test_other_paths_are_refused_and_a_taken_port_is_named(port: int):
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 404
    with pytest.raises(SettingsError, match=f"GAUNTLET_WORKER_PORT={port}"):
        MonitoringPort("GAUNTLET_WORKER_PORT", IPv4Address("127.0.0.1"), port, PAGES, None)


def test_the_worker_counts_what_it_computes(server: Server):
    def metrics() -> dict[str, float]:
        families = text_string_to_metric_families(httpx.get(f"{server.probe}/metrics").text)
        return {f"{s.name}{sorted(s.labels.items())}": s.value for family in families for s in family.samples}

    assert httpx.get(f"{server.probe}/livez").status_code == 200
    before, started = metrics(), time.time()
    report = server.finished(server.submit({**SHORT_REPORT, "models": ["linear"], "attacks": ["ddn"]}))["report"]
    after = metrics()
    moved = {name: value - before.get(name, 0) for name, value in after.items()}
    assert moved["gauntlet_worker_reports_total[('outcome', 'succeeded')]"] == 1
    labels = "[('attack', 'ddn'), ('model', 'linear')]"
    assert moved[f"gauntlet_worker_attacked_total{labels}"] == SHORT_REPORT["n"]
    assert 0 < moved[f"gauntlet_worker_broken_total{labels}"] <= SHORT_REPORT["n"]
    assert report["request"]["n"] == SHORT_REPORT["n"]
    assert moved["gauntlet_worker_shard_seconds_count[('kind', 'attack')]"] == 1
    assert moved["gauntlet_worker_shard_seconds_count[('kind', 'clean')]"] == 1
    assert moved["gauntlet_worker_heartbeats_total[('outcome', 'told')]"] > 0
    assert after["gauntlet_worker_busy[]"] == 0
    assert started <= after["gauntlet_worker_last_step_timestamp_seconds[]"] <= time.time()
