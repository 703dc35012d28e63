"""The manifests are what their schemas allow, and name only what exists: settings, routes, metrics, labels, jobs."""

import json
import os
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import psycopg
import pytest
import sqlalchemy as sa
import yaml

from gauntlet.errors import GauntletError
from service.endpoints import routes
from service.jobs.queue_metrics import JobMetrics
from service.jobs.schema import migrate
from service.jobs.status import Backlog, Status
from service.middleware.drain import SPARE
from service.middleware.request_gate import FILES_AT_ONCE
from service.settings import MOST_API_PROCESSES, Settings
from service.uploads.models import OPEN
from tests.deploy import manifests, promql
from tests.service.databases import Postgres, served


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    yield from served()


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
        for container in manifests.containers(manifests.pods()[part])
        for entry in container["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    mounted = [
        volume["secret"] for part in PARTS for volume in manifests.pods()[part]["spec"]["volumes"] if "secret" in volume
    ]
    asked |= {(secret["secretName"], item["key"]) for secret in mounted for item in secret["items"]}
    assert asked == {("gauntlet", "database-url"), ("gauntlet", "owner-url"), ("gauntlet", "keys")}
    operations = (manifests.ROOT / "docs" / "operations.md").read_text()
    assert "--from-literal=database-url=" in operations
    assert "--from-literal=owner-url=" in operations
    assert "--from-file=keys=" in operations


# How it runs


@pytest.mark.parametrize("part", PARTS)
def test_a_pod_may_do_nothing_it_need_not(part: str):
    spec, container = manifests.pods()[part]["spec"], manifests.container(part)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 1034
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False  # a Service named gauntlet would set GAUNTLET_PORT=tcp://...
    for each in manifests.containers(manifests.pods()[part]):
        assert each["securityContext"]["readOnlyRootFilesystem"]
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/gauntlet", "/var/lib/gauntlet-store"}
    environment = manifests.settings(part)
    assert environment["GAUNTLET_STATE"] == "/var/lib/gauntlet"
    assert str(environment["BENTOML_HOME"]).startswith("/tmp/")


def test_pods_reach_name_servers_and_the_database_and_nothing_else():
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in manifests.of_kind("NetworkPolicy")}
    assert policies["gauntlet"]["podSelector"] == {"matchLabels": {"app": "gauntlet"}}  # of both parts
    assert set(policies["gauntlet"]["policyTypes"]) == {"Ingress", "Egress"}
    ports = [[(port["port"], bool(rule["to"])) for port in rule["ports"]] for rule in policies["gauntlet"]["egress"]]
    assert ports == [[(53, True), (53, True)], [(5432, True)]]
    assert not any(peer == {} for rule in policies["gauntlet"]["egress"] for peer in rule["to"])


def test_metrics_are_for_monitoring_alone():
    (policy,) = [one for one in manifests.of_kind("NetworkPolicy") if one["metadata"]["name"] == "gauntlet-service"]
    allowed = {
        rule["ports"][0]["port"]: [list(peer["namespaceSelector"]["matchLabels"]) for peer in rule["from"]]
        for rule in policy["spec"]["ingress"]
    }
    assert allowed == {"http": [["gauntlet/clients"]], "metrics": [["gauntlet/monitoring"]]}


# Compose


def test_everything_in_compose_is_limited_and_has_no_way_out_but_what_is_published():
    composed = manifests.compose()
    inside = {name for name, network in composed["networks"].items() if network.get("internal")}
    assert set(composed["networks"]) - inside == {"edge"}
    for name, service in composed["services"].items():
        assert service["mem_limit"] == service["memswap_limit"], name
        assert service["pids_limit"] > 0, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ("edge" in service["networks"]) == ("ports" in service), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert {name for name, service in composed["services"].items() if "ports" in service} == {"proxy", "prometheus"}
    assert {name for name, service in composed["services"].items() if "front" in service["networks"]} == {
        "proxy",
        "service",
    }


def test_the_proxy_is_the_one_whose_word_on_clients_is_taken():
    composed = manifests.compose()
    (front,) = composed["networks"]["front"]["ipam"]["config"]
    assert composed["services"]["service"]["environment"]["GAUNTLET_TRUSTED_PROXIES"] == front["subnet"]


@pytest.mark.parametrize("part", PARTS)
def test_uploads_are_refused_where_they_cannot_be_confined(part: str):
    assert manifests.settings(part)["GAUNTLET_SANDBOX"] == "require"
    assert manifests.compose()["services"][part]["environment"]["GAUNTLET_SANDBOX"] == "require"


def test_every_image_of_compose_is_named_in_one_place():
    lines = (manifests.COMPOSE.parent / ".env").read_text().splitlines()
    named = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    asked = {service["image"] for service in manifests.compose()["services"].values()}
    assert asked == {f"${{{name}:?is in .env}}" for name in named}


def who_migrates() -> dict[str, tuple[list[str], str, str]]:
    """By deployment: the command that makes the tables, the role with which it runs, and that of all others."""
    composed = manifests.compose()["services"]
    once, usual = (composed[name]["environment"]["GAUNTLET_DATABASE_URL"] for name in ("migrate", "service"))
    assert composed["worker"]["environment"]["GAUNTLET_DATABASE_URL"] == usual
    (init,) = manifests.pods()["worker"]["spec"]["initContainers"]
    (owner,) = [entry["valueFrom"]["secretKeyRef"]["key"] for entry in init["env"]]
    text = (manifests.ROOT / "docs" / "operations.md").read_text()
    told = {key: text.split(f"--from-literal={key}=")[1].split()[0] for key in (owner, "database-url")}
    return {
        "compose": (composed["migrate"]["command"], *(url.split("//")[1].split(":")[0] for url in (once, usual))),
        "kubernetes": (init["args"], *(told[key].split("//")[1].split(":")[0] for key in (owner, "database-url"))),
    }


@pytest.mark.parametrize(("command", "owner", "user"), who_migrates().values(), ids=who_migrates())
def test_the_tables_are_made_by_their_owner_before_anybody_uses_them(command: list[str], owner: str, user: str):
    assert command == ["python", "-m", "service", "migrate", "--grant", user]
    assert (owner, user) == ("gauntlet", "gauntlet_service")
    composed = manifests.compose()["services"]
    assert {name for name, service in composed.items() if "migrate" in service.get("depends_on", {})} == {
        "service",
        "worker",
    }


@pytest.mark.postgres
def test_the_roles_of_compose_can_do_what_they_must_and_no_more(postgres: Postgres):
    sql = (manifests.COMPOSE.parent / "roles.sql").read_text().replace("gauntlet", "limited")
    passwords = {"OWNER_PASSWORD": "it's secret", "DATABASE_PASSWORD": "so's this"}
    environment = {**os.environ, **passwords, "PGOPTIONS": "-c client_min_messages=warning"}
    command = ["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", postgres.url("postgres")]
    subprocess.run(command, input=sql, text=True, check=True, env=environment)
    owner, user = (
        postgres.url("limited").replace("//gauntlet@", f"//{role}@") for role in ("limited", "limited_service")
    )
    migrate(owner, "limited_service")
    with psycopg.connect(owner, autocommit=True) as connection:
        rights = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
        rows = connection.execute(f"SELECT {rights} FROM pg_roles WHERE rolname LIKE 'limited%'").fetchall()
        assert rows == [(False,), (False,)]
    with psycopg.connect(user, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM gauntlet_uploads").fetchone() == (0,)
    for url in (owner, user):
        with psycopg.connect(url, autocommit=True) as connection:
            for refused in ("CREATE DATABASE other", "COPY (SELECT 1) TO PROGRAM 'true'", "CREATE ROLE other"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(refused)
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(postgres.url("postgres").replace("//gauntlet@", f"//{sa.make_url(url).username}@"))


# Endings


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
        assert names == ({"http": 3000, "metrics": 3002} if part == "service" else {"worker": 3001})
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["path"] in answers[part]
                assert container[probe]["httpGet"]["port"] in names
    assert manifests.settings("worker")["GAUNTLET_WORKER_PORT"] == "3001"
    assert manifests.settings("service")["GAUNTLET_METRICS_PORT"] == "3002"
    (service,), (pod,) = (manifests.of_kind(kind) for kind in MONITORS)
    assert {endpoint["port"] for endpoint in service["spec"]["endpoints"]} == {"metrics"}
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
