"""A real Prometheus with the shipped configuration, faster, against a real service and its worker."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy import promql
from tests.service.conftest import PATIENCE, SHORT_REPORT, Server, arrays, build_models, free_port, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.prometheus]

CLASSIFIED = 30


@dataclass
class Prometheus:
    """Its HTTP API."""

    client: httpx.Client

    def get(self, path: str, **params: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, (params, answer.text)
        return answer.json()["data"]

    def query(self, expression: str) -> list[float]:
        """The values of a vector."""
        return [float(series["value"][1]) for series in self.get("query", query=expression)["result"]]

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def active(self) -> set[str]:
        """Names of the alerts that fire or are about to."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed; on Debian: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("watched")
    build_models(folder)
    server = Server(folder, {})
    server.start()
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    command = ["prometheus", f"--config.file={configuration(folder, server)}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                wait_for(lambda: client.get("/-/ready").status_code == 200 or process.poll() is not None)
                assert process.poll() is None, (folder / "log").read_text()
                yield Prometheus(client)
        finally:
            process.terminate()


def configuration(folder: Path, server: Server) -> Path:
    """The shipped one with other addresses and a faster clock."""
    config = yaml.safe_load((promql.PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(promql.PROMETHEUS / path) for path in config["rule_files"]]
    ports = {"gauntlet": server.port, "gauntlet-worker": server.worker_port}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports.pop(job['job_name'])}"]}]
    assert not ports
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def traffic(server: Server, prometheus: Prometheus) -> None:
    """Predictions and a report, before and after a first scrape: a rate needs two."""
    for done in (1, 2):
        for _ in range(CLASSIFIED):
            server.client.post("/classify", json={"model": "linear", "images": arrays(1)})
        server.client.get("/no-such-path")
        server.finished(server.submit({**SHORT_REPORT, "models": ["linear"]}))
        scraped = f'gauntlet_probability_margin_count{{model="linear"}} == {done * CLASSIFIED}'
        wait_for(partial(prometheus.query, scraped))


@pytest.mark.usefixtures("traffic")
def test_both_are_scraped_and_every_rule_is_evaluated(prometheus: Prometheus):
    assert wait_for(lambda: prometheus.query("up") == [1, 1])
    wait_for(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
    assert {rule["name"] for rule in prometheus.rules()} == {rule.name for rule in promql.rules()}
    assert not any(rule.get("lastError") for rule in prometheus.rules())


@pytest.mark.usefixtures("traffic")
def test_the_recorded_series_tell_the_traffic(prometheus: Prometheus):
    (rate,) = wait_for(lambda: prometheus.query("job:gauntlet_requests:rate5m > 0"))
    assert rate > 0
    assert prometheus.query("job:gauntlet_errors:ratio5m") == [0]
    (share,) = wait_for(lambda: prometheus.query('model:gauntlet_small_margin:share10m{model="linear"}'))
    assert 0 <= share <= 1
    (slow,) = prometheus.query("job:gauntlet_classify_slow:ratio5m")
    assert 0 <= slow <= 1
    assert prometheus.query('gauntlet_worker_attacked_total{model="linear", attack="ddn"}') == [2 * SHORT_REPORT["n"]]


@pytest.mark.usefixtures("traffic")
def test_prometheus_understands_every_expression_of_the_dashboard(prometheus: Prometheus):
    silent = []
    for title, expressions in promql.panels().items():
        for expression in expressions:
            if title != "variables":
                found = prometheus.query(promql.plain(expression))
                silent += [] if found else [title]
    assert {title for title in silent if "past" not in title} <= {
        "Budget of slow classifications",  # six hours of it
        "Images attacked",
        "Latency by route, p99",
        "Small certified radii",
        "Small margins",
        "Standard deviations above the past",
        "Size of successes, median",
        "Success",
    }


@pytest.mark.usefixtures("traffic")
def test_a_service_that_does_well_raises_no_alarm_and_one_that_ends_does(server: Server, prometheus: Prometheus):
    own_fault = {"GauntletClassifySlow", "GauntletClassifySlowly", "GauntletStateDiskLow"}  # of the machine
    assert wait_for(lambda: prometheus.active() <= own_fault)
    server.stop()
    wait_for(lambda: {"GauntletServiceDown", "GauntletWorkerDown"} <= prometheus.active())
