"""The manifests are what their schemas allow, and name only what exists: settings, routes, metrics, labels, jobs."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gauntlet.errors import GauntletError
from service.endpoints import routes
from service.jobs.queue_metrics import JobMetrics
from service.jobs.status import Backlog, Status
from service.middleware.drain import SPARE
from service.middleware.request_gate import FILES_AT_ONCE
from service.settings import MOST_API_PROCESSES, Settings
from service.uploads.models import OPEN
from tests.deploy import manifests, promql

SCHEMAS = Path(__file__).parent / "schemas"
MONITORS = ("ServiceMonitor", "PodMonitor")
PARTS = ("service", "worker")
NATIVE = [resource for resource in manifests.RESOURCES if resource["kind"] not in MONITORS]
PREFIX = "GAUNTLET_"


@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_every_resource_is_valid(version: str):
    for resource in NATIVE:
        kubernetes_validate.validate(resource, version, strict=True)
    assert len(NATIVE) == 12


def test_the_check_would_see_a_mistake():
    wrong = {**manifests.of_kind("PodDisruptionBudget")[0], "spec": {"minAvailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.36", strict=True)


@pytest.mark.parametrize("kind", MONITORS)
def test_the_operators_resources_are_what_the_operator_knows(kind: str):
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text())
    (monitor,) = manifests.of_kind(kind)
    jsonschema.validate(monitor, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**monitor, "spec": {**monitor["spec"], "portt": 1}}, schema)


def test_compose_is_what_its_specification_allows():
    text = (resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
    jsonschema.validate(manifests.compose(), json.loads(text))


def test_the_kustomization_has_every_file():
    files = {path.name for path in manifests.KUBERNETES.glob("*.yaml")}
    assert {*manifests.KUSTOMIZATION["resources"], "kustomization.yaml", "prometheus-adapter.yaml"} == files


@pytest.mark.parametrize("part", PARTS)
def test_the_memory_of_a_pod_holds_its_own_and_all_that_users_bring(part: str):
    resources = manifests.container(part)["resources"]
    own, limit = (int(resources[kind]["memory"].removesuffix("Gi")) * 2**30 for kind in ("requests", "limits"))
    each = int(manifests.settings(part)["GAUNTLET_UPLOAD_MEMORY"] or 0)
    assert 0 < own + OPEN * each <= limit


def test_the_files_of_all_uploads_on_their_way_fit_into_tmp():
    spec = manifests.pods()["service"]["spec"]
    (tmp,) = [volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "tmp"]
    largest = int(manifests.settings("service")["GAUNTLET_MAX_UPLOAD"] or 0)
    copies = 2 * largest  # of the one that is being read
    assert MOST_API_PROCESSES * FILES_AT_ONCE * largest + copies <= int(tmp.removesuffix("Gi")) * 2**30
    assert manifests.compose()["services"]["service"]["environment"]["GAUNTLET_MAX_UPLOAD"] == largest


# Settings


def environments() -> dict[str, dict[str, Any]]:
    composed = manifests.compose()["services"]
    return {
        **{f"kubernetes {part}": manifests.settings(part) for part in PARTS},
        **{f"compose {part}": composed[part]["environment"] for part in PARTS},
    }


@pytest.mark.parametrize(("where", "environment"), environments().items())
def test_every_setting_exists_and_takes_its_value(where: str, environment: dict[str, Any], monkeypatch):
    ours = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    assert {name.removeprefix(PREFIX).lower() for name in ours} <= set(Settings.model_fields)
    for name, value in ours.items():
        if value is not None and name != "GAUNTLET_KEYS_FILE":
            monkeypatch.setenv(name, str(value))
    try:
        loaded = Settings.load()
    except GauntletError as error:
        pytest.fail(f"{where}: {error}")
    assert loaded.database_url.startswith("postgresql") == where.startswith("compose")
    assert str(loaded.host) == "0.0.0.0"
    assert loaded.state == Path("/var/lib/gauntlet")


def test_nobody_is_asked_for_what_only_the_secret_has():
    asked = {
        (entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"])
        for part in PARTS
        for entry in manifests.container(part)["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    mounted = [
        volume["secret"] for part in PARTS for volume in manifests.pods()[part]["spec"]["volumes"] if "secret" in volume
    ]
    asked |= {(secret["secretName"], item["key"]) for secret in mounted for item in secret["items"]}
    assert asked == {("gauntlet", "database-url"), ("gauntlet", "keys")}
    operations = (manifests.ROOT / "docs" / "operations.md").read_text()
    assert "--from-literal=database-url=" in operations
    assert "--from-file=keys=" in operations


# How it runs


@pytest.mark.parametrize("part", PARTS)
def test_a_pod_may_do_nothing_it_need_not(part: str):
    spec, container = manifests.pods()[part]["spec"], manifests.container(part)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 1034
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # a Service named gauntlet would set GAUNTLET_PORT=tcp://...
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/gauntlet", "/var/lib/gauntlet-store"}
    environment = manifests.settings(part)
    assert environment["GAUNTLET_STATE"] == "/var/lib/gauntlet"
    assert str(environment["BENTOML_HOME"]).startswith("/tmp/")


def test_who_waits_for_the_end_waits_long_enough():
    drain = int(str(manifests.settings("service")["GAUNTLET_DRAIN_S"])) + 2 * SPARE
    pause = int(manifests.container("service")["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert manifests.pods()["service"]["spec"]["terminationGracePeriodSeconds"] > pause + drain
    composed = manifests.compose()["services"]["service"]
    assert (
        int(composed["stop_grace_period"].removesuffix("s")) > composed["environment"]["GAUNTLET_DRAIN_S"] + 2 * SPARE
    )


def test_probes_and_monitors_ask_what_answers():
    answers = {"service": {endpoint.path for endpoint in routes.ENDPOINTS}, "worker": {"/livez", "/metrics"}}
    for part in PARTS:
        container = manifests.container(part)
        names = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert names == ({"http": 3000} if part == "service" else {"worker": 3001})
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["path"] in answers[part]
                assert container[probe]["httpGet"]["port"] in names
    assert manifests.settings("worker")["GAUNTLET_WORKER_PORT"] == "3001"
    (service,), (pod,) = (manifests.of_kind(kind) for kind in MONITORS)
    assert {endpoint["port"] for endpoint in service["spec"]["endpoints"]} == {"http"}
    assert {endpoint["port"] for endpoint in pod["spec"]["podMetricsEndpoints"]} == {"worker"}


def test_prometheus_gets_the_job_names_that_the_rules_select():
    known = jobs(promql.PROMETHEUS / "prometheus.yml")
    assert jobs(manifests.COMPOSE.parent / "prometheus.yml") == known
    named = [
        endpoint["relabelings"][0]["replacement"]
        for kind, field in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints"))
        for endpoint in manifests.of_kind(kind)[0]["spec"][field]
    ]
    assert set(named) == known


def jobs(configuration: Path) -> set[str]:
    return {job["job_name"] for job in yaml.safe_load(configuration.read_text())["scrape_configs"]}


def test_whatever_selects_pods_selects_some():
    for what, labels in manifests.labelled():
        assert any(labels.items() <= pod["metadata"]["labels"].items() for pod in manifests.pods().values()), what


def test_the_autoscaler_reads_the_queue_as_the_service_tells_it():
    scaled = {
        entry["spec"]["scaleTargetRef"]["name"]: entry["spec"] for entry in manifests.of_kind("HorizontalPodAutoscaler")
    }
    assert set(scaled) == {deployment["metadata"]["name"] for deployment in manifests.of_kind("Deployment")}
    assert all("replicas" not in deployment["spec"] for deployment in manifests.of_kind("Deployment"))
    (metric,) = scaled["gauntlet-worker"]["metrics"]
    (rule,) = yaml.safe_load((manifests.KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["external"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    backlog = Backlog(dict.fromkeys(Status, 1), 0.0)
    told = {
        sample.labels.get("status")
        for family in JobMetrics(lambda: backlog, lambda: 1, manifests.ROOT).collect()
        for sample in family.samples
        if sample.name == "gauntlet_reports"
    }
    query = rule["metricsQuery"]
    assert "gauntlet_reports{" in rule["seriesQuery"]
    assert "gauntlet_reports{" in query
    asked = query.split('status=~"')[1].split('"')[0].split("|")
    assert set(asked) == {Status.QUEUED, Status.RUNNING} <= told
