"""Rules and dashboard ask for nothing that the service and its worker do not expose."""

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from service.observability import metrics, worker_metrics
from tests.deploy import promql
from tests.service.conftest import Server, arrays

PROMETHEUS = {"up", "ALERTS"}  # its own series
TARGET = {"job", "instance", "alertname", "alertstate"}  # labels that it adds
PARTS = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


@pytest.fixture(scope="module")
def exposed(server: Server) -> set[str]:
    """Every name that a scrape can bring, said by the two processes themselves: most appear with the first request."""
    images = {"model": "linear", "images": arrays(1)}
    attack = {"attack": "pgd", "norm": "l2", "eps": 8.0, **images}
    assert server.client.post("/classify", json=images).is_success
    assert server.client.post("/attack", json=attack).json()["results"][0]["success"]
    texts = (server.client.get("/metrics").text, httpx.get(f"{server.probe}/metrics").text)
    families = [family for text in texts for family in text_string_to_metric_families(text)]
    return {family.name + part for family in families for part in PARTS[family.type]}


def expressions() -> dict[str, list[str]]:
    return {**{rule.name: [rule.expression] for rule in promql.rules()}, **promql.panels()}


def test_every_name_is_exposed_or_recorded(exposed: set[str]):
    recorded = {rule.name for rule in promql.rules() if not rule.alert}
    known = exposed | recorded | PROMETHEUS
    wrong = {where: promql.metrics(e) - known for where, listed in expressions().items() for e in listed}
    assert {where: names for where, names in wrong.items() if names} == {}
    used = {name for listed in expressions().values() for e in listed for name in promql.metrics(e)}
    assert recorded <= used, "a rule that nobody reads"
    assert len(used & exposed) > 20


def families(registry: CollectorRegistry) -> list[MetricWrapperBase]:
    return [collector for collector in registry._collector_to_names if isinstance(collector, MetricWrapperBase)]


def test_every_label_and_bucket_exists():
    defined = [*families(metrics.REGISTRY), *families(worker_metrics.REGISTRY)]
    known = {name for family in defined for name in family._labelnames} | TARGET | {"le", "status"}
    buckets = {
        (family._name, str(edge)) for family in defined for edge in getattr(family, "_kwargs", {}).get("buckets", ())
    }
    for where, listed in expressions().items():
        for expression in listed:
            assert promql.labels(expression) <= known, where
            assert promql.edges(expression) <= buckets, where
