"""The rules by Prometheus' own tool, where there is one: the Debian package is called prometheus."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.endpoints.routes import ENDPOINTS
from tests.deploy.promql import PROMETHEUS, ROOT, labels, metrics, rules

SEVERITIES = {"page", "ticket"}


def promtool(*words: str) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; on Debian: apt-get install prometheus")
    done = subprocess.run(["promtool", *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.prometheus
def test_prometheus_takes_the_configuration_and_the_rules():
    assert "FAILED" not in promtool("check", "config", "--lint=all", "--lint-fatal", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.prometheus
def test_prometheus_takes_the_configuration_of_compose(tmp_path: Path):
    shutil.copytree(PROMETHEUS / "rules", tmp_path / "rules")
    shutil.copy(ROOT / "deploy" / "compose" / "prometheus.yml", tmp_path)
    assert "FAILED" not in promtool("check", "config", "--lint=all", "--lint-fatal", str(tmp_path / "prometheus.yml"))


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.parametrize("cases", ["rules", "evasion"])
def test_alerts_fire_when_they_should_and_only_then(cases: str):
    promtool("test", "rules", f"tests/deploy/{cases}.test.yml")


def test_every_alert_is_tried_by_name():
    tried = "".join((ROOT / "tests" / "deploy" / f"{cases}.test.yml").read_text() for cases in ("rules", "evasion"))
    alerts = [rule.name for rule in rules() if rule.alert]
    assert len(alerts) == len(set(alerts)) >= 12
    assert [name for name in alerts if f'alertname="{name}"' not in tried] == []


def test_every_alert_says_what_it_is_and_what_to_do():
    for rule in rules():
        if rule.alert:
            assert rule.annotations.keys() == {"summary", "description", "action"}, rule.name
            assert rule.labels["severity"] in SEVERITIES


def test_the_traffic_leaves_out_every_probe_and_scrape():
    left_out = [re.findall(r'route!~"([^"]*)"', rule.expression) for rule in rules() if "route!~" in rule.expression]
    probes = {endpoint.path for endpoint in ENDPOINTS if not endpoint.metered}
    assert [set(routes.split("|")) for (routes,) in left_out] == [probes, probes]


def test_every_alert_is_explained_to_the_operator():
    told = (ROOT / "docs" / "operations.md").read_text()
    assert [rule.name for rule in rules() if rule.alert and f"`{rule.name}`" not in told] == []


def test_the_reader_of_expressions_reads_them():
    """The other tests believe it."""
    expression = (
        'sum by (job, le) (rate(a_bucket{route!~"/x|y", le="0.1"}[5m])) / on (job) group_left () '
        "(job:b:ratio5m > bool 14.4 * 1e-2) or vector(0) and time() - c offset 1h unless ignoring(model) d[1d:] "
    )
    assert metrics(expression) == {"a_bucket", "job:b:ratio5m", "c", "d"}
    assert labels(expression) == {"job", "le", "route", "model"}
