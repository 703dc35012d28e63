"""Keys, scopes, rates, quotas: in this process but for what only a real server can show."""

import json
import logging
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import httpx
import pytest
from dbos import run_dbos_database_migrations

from service import __main__ as command
from service import access, keys, openapi, parent, quota
from service.access import NEEDS
from service.errors import STATUS
from service.jobs import Jobs
from service.keys import Keyring, Scope, check_open, digest
from service.limits import Buckets, neighbourhood
from service.logs import AUDIT, Json
from service.probe import Probe
from service.quota import Owner
from service.routes import ROUTES
from service.schemas import Envelope
from service.settings import Settings, SettingsError
from service.web import WEB
from tests.service.conftest import free_port
from tests.service.door import LINES, SECRETS, Caller, door, entry

PUBLIC = {"/", "/livez", "/healthz", "/readyz", "/openapi.json", "/schema.json"}
REPORT = {"models": ["linear"]}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch):
    """Sets GAUNTLET_ variables; keys of every scope unless told otherwise."""

    def choose(**values: object) -> None:
        for name, value in {"api_keys": LINES, **values}.items():
            monkeypatch.setenv(f"GAUNTLET_{name.upper()}", str(value))

    choose()
    return choose


def told(answer: httpx.Response) -> dict[str, Any]:
    error = Envelope.model_validate(answer.json()).error
    assert answer.status_code == STATUS[error.code]
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return answer.json()["error"]


# Who may do what


def test_the_table_of_scopes_has_every_route_and_no_other():
    assert NEEDS.keys() == {(route.method, route.path) for route in ROUTES}
    assert {path for (_, path), scope in NEEDS.items() if scope is None} == PUBLIC
    assert access.needs("POST", "/nobody/thought/of/it") is Scope.ADMIN


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_call_wants_its_scope(settings, route):
    call = Caller(door())
    needed = NEEDS[route.method, route.path]
    path = route.path.replace("{id}", "x").replace("{name}", "x")
    kind = {"Content-Type": route.consumes}
    statuses = {
        scope: call(route.method, path, key=secret, headers=kind).status_code for scope, secret in SECRETS.items()
    }
    alone = call(route.method, path)
    if route.path in PUBLIC:
        assert {alone.status_code, *statuses.values()} == {200}
        return
    error = told(alone)
    assert (error["code"], alone.headers["www-authenticate"]) == ("unauthenticated", 'Bearer realm="gauntlet"')
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
    answers = [call(route.method, route.path, headers={"Content-Type": route.consumes}) for route in ROUTES]
    assert {answer.status_code for answer in answers} == {200}
    assert call("GET", "/models", key="whatever").status_code == 200


def test_metrics_need_a_key_unless_they_are_open(settings):
    assert Caller(door())("GET", "/metrics").status_code == 401
    settings(metrics_open=True)
    assert Caller(door())("GET", "/metrics").status_code == 200


def test_the_workers_metrics_likewise_and_its_livez_never(caplog, monkeypatch):
    monkeypatch.setattr(AUDIT, "propagate", True)
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


# Keys


def test_the_command_makes_a_key_that_works_and_keeps_only_its_hash(settings, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["service", "keys", "new", "ci", "--scope", "attack"])
    command.main()
    out, err = capsys.readouterr()
    secret = err.split("once: ")[1].split()[0]
    assert secret not in out
    (key,) = keys.parse(out, "test")
    assert (key.name, key.scope, key.sha256) == ("ci", Scope.ATTACK, digest(secret))
    settings(api_keys=out)
    assert Caller(door())("POST", "/attack", key=secret).status_code == 200
    assert keys.new("ci", Scope.READ)[0] != keys.new("ci", Scope.READ)[0]


@pytest.mark.parametrize("arguments", [["a name", "--scope", "read"], ["x" * 65, "--scope", "read"]])
def test_a_name_that_cannot_be_is_refused(monkeypatch, capsys, arguments: list[str]):
    monkeypatch.setattr(sys, "argv", ["service", "keys", "new", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert "cannot be a key's name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gauntlet_somebody-put-the-key-itself-here", "line 1: the line: Invalid JSON"),
        ("# a comment\n\n" + entry("a", "x", "read").replace("read", "root"), "line 3: scope"),
        (entry("a", "x", "read").replace("sha256", "key"), "line 1: sha256: Field required"),
        (entry("a", "x", "read") + "\n" + entry("a", "y", "read"), "line 2: a second key is called a"),
        (json.dumps({**json.loads(entry("a", "x", "read")), "reports_per_day": -1}), "line 1: reports_per_day"),
        (json.dumps({**json.loads(entry("a", "x", "read")), "secret": "x"}), "line 1: secret: Extra inputs"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_not_quoted(text: str, reason: str):
    with pytest.raises(SettingsError, match=reason) as refused:
        keys.parse(text, "GAUNTLET_API_KEYS")
    assert "somebody-put" not in str(refused.value)
    assert digest("x") not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_that_is_taken_out_of_the_file_is_refused_without_a_restart(
    settings, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setattr(keys, "LOOK", 0)
    monkeypatch.setattr(keys.LOGGER, "propagate", True)
    file = tmp_path / "keys"
    file.write_text(entry("one", "first", "read") + "\n" + entry("two", "second", "read") + "\n")
    settings(api_keys=entry("fixed", "third", "read"), keys_file=file)
    call = Caller(door())

    def statuses() -> list[int]:
        return [call("GET", "/models", key=secret).status_code for secret in ("first", "second", "third")]

    assert statuses() == [200, 200, 200]
    file.write_text(entry("two", "second", "read") + "\n")
    assert statuses() == [401, 200, 200]
    file.write_text("half a li")
    assert statuses() == [401, 200, 200]
    assert "the keys before stay valid" in caplog.text
    file.unlink()
    assert statuses() == [401, 200, 200]
    file.write_text("# nobody\n")
    assert statuses() == [401, 401, 200]


# Open or not


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1"])
def test_on_loopback_no_key_is_needed(host: str):
    check_open(Settings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", None])
def test_who_can_be_reached_refuses_to_be_open_unless_told(host: str | None):
    with pytest.raises(SettingsError, match="GAUNTLET_OPEN=1") as refused:
        check_open(Settings(), host)
    assert (host or "the address") in str(refused.value)
    check_open(Settings(open=True), host)
    check_open(Settings(api_keys=LINES), host)


def test_the_host_is_the_one_that_bentoml_was_given(capsys):
    assert parent._host() is None
    context = click.Context(click.Command("serve"))
    context.params["host"] = "0.0.0.0"
    with context:
        assert parent._host() == "0.0.0.0"
        with pytest.raises(SystemExit) as ended:
            parent.prepare()
    assert ended.value.code == 1
    assert "gauntlet: 0.0.0.0 can be reached from elsewhere" in capsys.readouterr().err


def test_a_file_without_a_key_or_that_is_not_there_ends_the_start(tmp_path: Path):
    (tmp_path / "empty").write_text("# none yet\n")
    with pytest.raises(SettingsError, match="hold no key"):
        check_open(Settings(keys_file=tmp_path / "empty"), "127.0.0.1")
    with pytest.raises(SettingsError, match=r"GAUNTLET_KEYS_FILE=.*cannot be read"):
        check_open(Settings(keys_file=tmp_path / "nowhere"), "127.0.0.1")


# Rates


def test_a_bucket_fills_with_time_and_says_how_long_to_wait():
    now = 0.0
    buckets = Buckets(lambda: now)
    assert [buckets.take("a", 8) for _ in range(3)] == [0, 0, 8]  # 8 a minute: two at once, one in 7.5 s
    assert buckets.take("b", 8) == 0
    now = 7.4
    assert buckets.take("a", 8) == 1
    now = 7.6
    assert [buckets.take("a", 8) for _ in range(2)] == [0, 8]
    now = 1000
    assert [buckets.take("a", 8) for _ in range(3)] == [0, 0, 8]


def test_buckets_of_who_has_not_asked_for_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr("service.limits.FORGOTTEN", 2)
    buckets = Buckets(lambda: 0.0)
    assert [buckets.take(who, 1) > 0 for who in "aabbcc"] == [False, True] * 3
    assert [buckets.take(who, 1) > 0 for who in "cba"] == [True, True, False]


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_what_of_an_address_is_one_client(host: str, client: str):
    assert neighbourhood(host) == client


def test_a_key_has_its_own_rate_and_probes_have_none(settings):
    fast = entry("fast", "a-fast-one", "read", requests_per_minute=0)
    settings(api_keys=f"{LINES}\n{fast}", requests_per_minute=4)
    call = Caller(door())
    assert call("GET", "/models", key=SECRETS["read"]).status_code == 200
    refused = call("GET", "/models", key=SECRETS["read"])
    assert told(refused)["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 15
    assert call("GET", "/models", key=SECRETS["attack"]).status_code == 200
    assert [call("GET", "/models", key="a-fast-one").status_code for _ in range(5)] == [200] * 5
    assert {call("GET", path).status_code for path in ("/livez", "/readyz") for _ in range(5)} == {200}


def test_without_keys_the_rate_is_that_of_an_address(settings):
    settings(api_keys="", requests_per_minute=4)
    app = door()
    assert [Caller(app)("GET", "/models").status_code for _ in range(2)] == [200, 429]
    assert Caller(app, "192.0.2.2")("GET", "/models").status_code == 200


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(settings):
    call = Caller(door())
    statuses = [call("GET", "/models", key="guess").status_code for _ in range(16)]
    assert statuses == [401] * 15 + [429]
    assert call("GET", "/models", key=SECRETS["read"]).status_code == 200


# Whose reports


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    run_dbos_database_migrations(url)
    jobs = Jobs(url)
    jobs.migrate()
    yield jobs
    jobs.close()


@pytest.fixture
def web(settings, jobs: Jobs, monkeypatch) -> Caller:
    """The real routes on a real job database; keys of two users beside those of every scope."""
    settings(api_keys="\n".join([LINES, *(entry(name, name, "attack") for name in ("ann", "bob"))]))
    monkeypatch.setattr(WEB.state, "service", SimpleNamespace(jobs=jobs, keyed=True), raising=False)
    return Caller(door(WEB))


def test_a_key_sees_and_ends_its_own_reports_alone_and_admin_all(web: Caller, jobs: Jobs):
    mine, _ = jobs.submit(REPORT, {}, None, 10, Owner("ann"))
    other, _ = jobs.submit(REPORT, {}, None, 10, Owner("bob"))
    nobodys, _ = jobs.submit(REPORT, {}, None, 10)

    def listed(key: str) -> set[str]:
        return {item["id"] for item in web("GET", "/robustness-report", key=key).json()["items"]}

    assert listed("ann") == {mine.id}
    assert listed("bob") == {other.id}
    assert listed(SECRETS["read"]) == set()
    assert listed(SECRETS["admin"]) == {mine.id, other.id, nobodys.id}
    assert web("GET", mine.status_url, key="ann").json()["id"] == mine.id
    calls = [("GET", ""), ("GET", "/html"), ("POST", "/cancel"), ("DELETE", "")]
    for job in (other, nobodys):
        for method, path in calls:
            absent = told(web(method, f"{job.status_url}{path}", key="ann"))
            assert absent["message"] == f"there is no report {job.id!r}"
            assert absent["code"] == "unknown_report"
    assert told(web("DELETE", mine.status_url, key="ann"))["code"] == "report_active"
    assert web("POST", f"{mine.status_url}/cancel", key="ann").status_code == 202
    assert web("DELETE", mine.status_url, key="ann").status_code == 204
    assert web("POST", f"{other.status_url}/cancel", key=SECRETS["admin"]).status_code == 202
    assert web("DELETE", other.status_url, key=SECRETS["admin"]).status_code == 204


def test_two_users_may_use_the_same_idempotency_key(jobs: Jobs):
    first, _ = jobs.submit(REPORT, {}, "mine", 10, Owner("ann"))
    again, new = jobs.submit(REPORT, {}, "mine", 10, Owner("ann"))
    other, fresh = jobs.submit({"models": ["conv"]}, {}, "mine", 10, Owner("bob"))
    assert (again.id, new) == (first.id, False)
    assert (other.id != first.id, fresh) == (True, True)
    assert (first.owner, other.owner) == ("ann", "bob")


# Quotas


def refused(jobs: Jobs, owner: Owner) -> access.ServiceError:
    with pytest.raises(access.ServiceError) as error:
        jobs.submit(REPORT, {}, None, 10, owner)
    assert error.value.code == "quota_exceeded"
    return error.value


def test_reports_of_a_day_are_counted_deleted_ones_too(jobs: Jobs):
    ann = Owner("ann", reports_per_day=2)
    first, _ = jobs.submit(REPORT, {}, "key", 10, ann)
    jobs.cancel(first.id)
    jobs.delete(first.id)
    second, _ = jobs.submit(REPORT, {}, "another", 10, ann)
    assert 0 < int(refused(jobs, ann).headers["Retry-After"]) <= 86400
    assert jobs.submit(REPORT, {}, "another", 10, ann)[0].id == second.id  # known already: asks for nothing
    jobs.submit(REPORT, {}, None, 10, Owner("bob", reports_per_day=2))


def test_a_new_day_is_a_new_quota_and_old_days_are_forgotten(jobs: Jobs, monkeypatch):
    ann = Owner("ann", reports_per_day=1)
    jobs.submit(REPORT, {}, None, 10, ann)
    refused(jobs, ann)

    class Later(quota.datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone) + quota.timedelta(days=40)

    monkeypatch.setattr(quota, "datetime", Later)
    jobs.submit(REPORT, {}, None, 10, ann)
    with jobs._engine.connect() as connection:
        assert len(connection.execute(quota.sa.select(quota.USAGE)).all()) == 1


def test_stored_reports_are_counted_until_they_are_deleted(jobs: Jobs):
    ann = Owner("ann", stored_reports=1)
    first, _ = jobs.submit(REPORT, {}, None, 10, ann)
    assert "delete some" in str(refused(jobs, ann))
    jobs.cancel(first.id)
    refused(jobs, ann)
    jobs.delete(first.id)
    jobs.submit(REPORT, {}, None, 10, ann)


def test_a_report_that_could_not_be_queued_costs_nothing(jobs: Jobs, monkeypatch):
    ann = Owner("ann", reports_per_day=1)
    with monkeypatch.context() as broken:
        broken.setattr(jobs._client, "enqueue", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jobs.submit(REPORT, {}, None, 10, ann)
    jobs.submit(REPORT, {}, None, 10, ann)


def test_the_quota_of_a_key_goes_before_that_of_the_settings():
    call = access.Call(key=keys.parse(entry("ann", "x", "read", reports_per_day=0, stored_reports=7), "test")[0])
    assert access.owner(call, Settings(reports_per_day=3, stored_reports=4)) == Owner("ann", 0, 7)
    call = access.Call(key=keys.parse(entry("bob", "x", "read"), "test")[0])
    assert access.owner(call, Settings(reports_per_day=3, stored_reports=4)) == Owner("bob", 3, 4)
    assert access.owner(access.Call(), Settings(reports_per_day=3)) is None


# The audit


@pytest.fixture
def audit(caplog, monkeypatch):
    """The lines of the audit so far, as they are written."""
    monkeypatch.setattr(AUDIT, "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(Json().format(record)) for record in caplog.records if record.name == AUDIT.name]


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


def test_what_an_admin_does_to_others_is_one_line(web: Caller, jobs: Jobs, audit):
    job, _ = jobs.submit(REPORT, {}, None, 10, Owner("ann"))
    web("GET", "/robustness-report", key=SECRETS["admin"])
    assert audit() == []
    web("POST", f"{job.status_url}/cancel", key=SECRETS["admin"])
    web("DELETE", job.status_url, key=SECRETS["admin"])
    lines = [(line["audit"], line["key"], line["method"], line["path"], line["status"]) for line in audit()]
    assert lines == [
        ("admin", "admin", "POST", f"{job.status_url}/cancel", 202),
        ("admin", "admin", "DELETE", job.status_url, 204),
    ]


def test_a_call_that_needs_admin_is_one_line_with_or_without_keys(settings, audit, monkeypatch):
    monkeypatch.setattr(access, "NEEDS", {**NEEDS, ("GET", "/models/{name}"): Scope.ADMIN})
    Caller(door())("GET", "/models/some", key=SECRETS["admin"])
    Caller(door())("GET", "/models/some", key=SECRETS["attack"])
    settings(api_keys="")
    Caller(door())("HEAD", "/models/some")
    lines = [(line["audit"], line["key"], line.get("path")) for line in audit()]
    assert lines == [
        ("admin", "admin", "/models/some"),
        ("scope refused", "attack", None),
        ("admin", None, "/models/some"),
    ]


# What is told of it


def test_openapi_says_which_key_a_call_needs_where_keys_are_in_use():
    document = openapi.document(True)
    assert document["components"]["securitySchemes"].keys() == {"bearer", "key"}
    for route in ROUTES:
        said = document["paths"][route.path][route.method.lower()]
        if route.path in PUBLIC:
            assert said["security"] == []
            assert not {"401"} & said["responses"].keys()
        else:
            scope = NEEDS[route.method, route.path]
            assert said["security"] == [{"bearer": [scope]}, {"key": [scope]}]
            assert {"401", "403"} <= said["responses"].keys()
        if route.body is not None:
            assert {"408", "413", "429", "503"} <= said["responses"].keys()
    free = openapi.document(False)
    assert "securitySchemes" not in free["components"]
    assert not any("401" in said["responses"] for path in free["paths"].values() for said in path.values())
