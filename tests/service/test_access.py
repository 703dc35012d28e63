"""Who may do what, what is said of it, and what the audit keeps: in this process."""

import logging
from ipaddress import IPv4Address

import httpx
import pytest

from service.auth import keys
from service.auth.keys import Keyring, digest
from service.endpoints import openapi
from service.endpoints.routes import ENDPOINTS, is_inference_protocol
from service.jobs.worker_probe import Probe
from service.observability import worker_metrics
from service.observability.logs import AUDIT
from service.request_context import Scope
from tests.service.conftest import free_port
from tests.service.in_process import LINES, SECRETS, Caller, door, told

PUBLIC = {"/", "/static/{file}", "/livez", "/healthz", "/readyz", "/openapi.json", "/schema.json"} | {
    "/v2/health/live",
    "/v2/health/ready",
}


@pytest.fixture(autouse=True)
def _keys(settings) -> None:
    settings(api_keys=LINES)


def test_only_what_is_public_needs_no_scope():
    assert {endpoint.path for endpoint in ENDPOINTS if endpoint.scope is None} == PUBLIC


@pytest.mark.parametrize("route", ENDPOINTS, ids=lambda route: f"{route.method} {route.path}")
def test_every_call_wants_its_scope(settings, route):
    call = Caller(door())
    needed = route.scope
    path = route.path.replace("{id}", "x").replace("{name}", "x")
    kind = {"Content-Type": route.consumes}
    statuses = {
        scope: call(route.method, path, key=secret, headers=kind).status_code for scope, secret in SECRETS.items()
    }
    alone = call(route.method, path)
    if route.path in PUBLIC:
        assert {alone.status_code, *statuses.values()} == {200}
        return
    assert (alone.status_code, alone.headers["www-authenticate"]) == (401, 'Bearer realm="gauntlet"')
    if is_inference_protocol(route.path):
        assert alone.json() == {"error": "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"}
    else:
        assert told(alone)["code"] == "unauthenticated"
    assert statuses == {scope: 200 if scope.includes(needed) else 403 for scope in Scope}


def test_a_scope_includes_those_before_it_and_the_refusal_names_the_one_that_is_needed(settings):
    call = Caller(door())
    answer = call("POST", "/attack", key=SECRETS[Scope.READ])
    error = told(answer)
    assert (error["code"], error["details"]["scope"]) == ("forbidden", "attack")
    assert 'error="insufficient_scope", scope="attack"' in answer.headers["www-authenticate"]
    assert call("POST", "/attack", key=SECRETS[Scope.ADMIN]).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {SECRETS[Scope.READ]}"}, 200),
        ({"Authorization": f"bearer  {SECRETS[Scope.READ]} "}, 200),
        ({"X-API-Key": SECRETS[Scope.READ]}, 200),
        ({"Authorization": "Basic eDp5", "X-API-Key": SECRETS[Scope.READ]}, 200),
        ({"Authorization": "Bearer wrong", "X-API-Key": SECRETS[Scope.READ]}, 401),
        ({"Authorization": f"Bearer {SECRETS[Scope.READ]}x"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": SECRETS[Scope.READ]}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": digest(SECRETS[Scope.READ])}, 401),  # what is kept is no key
        ({"X-API-Key": "\xff"}, 401),
    ],
)
def test_how_a_key_is_brought(settings, headers: dict[str, str], status: int):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    assert Caller(door())("GET", "/models", headers=raw).status_code == status


def test_without_keys_nobody_is_asked_for_one(settings):
    settings(api_keys="")
    call = Caller(door())
    answers = [call(route.method, route.path, headers={"Content-Type": route.consumes}) for route in ENDPOINTS]
    assert {answer.status_code for answer in answers} == {200}
    assert call("GET", "/models", key="whatever").status_code == 200


def test_metrics_need_a_key_unless_they_are_open(settings):
    assert Caller(door())("GET", "/metrics").status_code == 401
    settings(metrics_open=True)
    assert Caller(door())("GET", "/metrics").status_code == 200


def test_the_workers_metrics_likewise_and_its_livez_never(caplog, monkeypatch):
    monkeypatch.setattr(AUDIT, "propagate", True)
    monkeypatch.setattr(worker_metrics, "LIVENESS", worker_metrics.Liveness())  # that of this process is as old as it
    port, ring = free_port(), Keyring(keys.parse(LINES, "test"), None)
    with Probe(IPv4Address("127.0.0.1"), port, ring) as probe, caplog.at_level(logging.INFO, AUDIT.name):
        url = f"http://127.0.0.1:{port}"
        refused = httpx.get(f"{url}/metrics", headers={"X-API-Key": "wrong-secret"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="gauntlet"')
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {SECRETS['read']}"}).status_code == 200
        assert httpx.get(f"{url}/livez").status_code == 200
        probe.shutdown()
    assert [record.fields["audit"] for record in caplog.records] == ["unknown key", "no key"]
    assert "wrong-secret" not in caplog.text


# The audit


def test_every_key_that_fails_is_one_line_without_the_key(settings, audit, caplog):
    call = Caller(door(), "192.0.2.9")
    call("POST", "/classify", key="somebodys-secret", headers={"X-Request-ID": "r1"})
    call("POST", "/classify", headers={"X-Request-ID": "r2"})
    call("POST", "/attack", key=SECRETS["read"], headers={"X-Request-ID": "r3"})
    call("POST", "/attack", key=SECRETS["attack"])
    events = [(line["request_id"], line["audit"], line["key"], line["client"], line["route"]) for line in audit()]
    assert events == [
        ("r1", "unknown key", None, "192.0.2.9", "/classify"),
        ("r2", "no key", None, "192.0.2.9", "/classify"),
        ("r3", "scope refused", "read", "192.0.2.9", "/attack"),
    ]
    assert not [secret for secret in ("somebodys-secret", *SECRETS.values()) if secret in str(audit()) + caplog.text]


def test_a_call_that_changes_the_service_is_one_line_with_or_without_keys(settings, audit):
    Caller(door())("POST", "/models/reload", key=SECRETS["admin"])
    Caller(door())("DELETE", "/models/some", key=SECRETS["upload"])
    Caller(door())("DELETE", "/models/some", key=SECRETS["attack"])
    settings(api_keys="")
    Caller(door())("DELETE", "/models/some")
    lines = [(line["audit"], line["key"], line.get("path")) for line in audit()]
    assert lines == [
        ("admin", "admin", "/models/reload"),
        ("upload", "upload", "/models/some"),
        ("scope refused", "attack", None),
        ("upload", None, "/models/some"),
    ]


# What is told of it


def test_openapi_says_which_key_a_call_needs_where_keys_are_in_use():
    document = openapi.document(ENDPOINTS, True)
    assert document["components"]["securitySchemes"].keys() == {"bearer", "key"}
    for route in ENDPOINTS:
        said = document["paths"][route.path][route.method.lower()]
        if route.path in PUBLIC:
            assert said["security"] == []
            assert not {"401"} & said["responses"].keys()
        else:
            scope = route.scope
            assert said["security"] == [{"bearer": [scope]}, {"key": [scope]}]
            assert {"401", "403"} <= said["responses"].keys()
        if route.body is not None:
            assert {"408", "413", "429", "503"} <= said["responses"].keys()
    free = openapi.document(ENDPOINTS, False)
    assert "securitySchemes" not in free["components"]
    assert not any("401" in said["responses"] for path in free["paths"].values() for said in path.values())
