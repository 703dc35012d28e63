"""Whose reports there are, and how many: on a real job database in this process."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from dbos import run_dbos_database_migrations

from service import app
from service.auth import keys, quota
from service.auth.admission import owner, requester
from service.auth.quota import Owner, Requester
from service.errors import ServiceError
from service.jobs.queue import Jobs
from service.jobs.status import Status
from service.request_context import Call
from service.settings import Settings
from tests.service.in_process import LINES, SECRETS, Caller, door, entry, told

REPORT = {"models": ["linear"], "dataset": "tiny", "n": 1}
TOGETHER = 6


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").database(f"quota-{uuid.uuid4()}")
    run_dbos_database_migrations(url)
    jobs = Jobs(url)
    jobs.database.migrate()
    yield jobs
    jobs.close()


@pytest.fixture
def processes(jobs: Jobs) -> Iterator[list[Jobs]]:
    """Several that share the job database."""
    made = [Jobs(jobs.database.engine.url.render_as_string(hide_password=False)) for _ in range(TOGETHER)]
    for one in made:
        _ = one.database.client  # so that they really begin together
    yield made
    for one in made:
        one.close()


@pytest.fixture
def web(settings, jobs: Jobs) -> Caller:
    """The real routes on a real job database; keys of two users beside those of every scope."""
    settings(api_keys="\n".join([LINES, *(entry(name, name, "attack") for name in ("ann", "bob"))]))
    routes = app.routes()
    routes.state.services = SimpleNamespace(jobs=jobs)
    return Caller(door(routes))


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


def test_no_page_is_made_of_a_report_that_an_older_release_wrote(web: Caller, jobs: Jobs, monkeypatch):
    job, _ = jobs.submit(REPORT, {}, None, 10)
    old = replace(job, status=Status.SUCCEEDED, output={"report": {"schema_version": 1, "models": []}})
    monkeypatch.setattr(jobs, "get", lambda _, output: old)
    page = web("GET", job.report_url, key=SECRETS["admin"])
    assert (page.status_code, told(page)["code"]) == (409, "report_outdated")
    assert web("GET", job.status_url, key=SECRETS["admin"]).json()["report"] == old.output["report"]


def test_two_users_may_use_the_same_idempotency_key(jobs: Jobs):
    first, _ = jobs.submit(REPORT, {}, "mine", 10, Owner("ann"))
    again, new = jobs.submit(REPORT, {}, "mine", 10, Owner("ann"))
    other, fresh = jobs.submit({"models": ["conv"]}, {}, "mine", 10, Owner("bob"))
    assert (again.id, new) == (first.id, False)
    assert (other.id != first.id, fresh) == (True, True)
    assert (first.owner, other.owner) == ("ann", "bob")


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


# Quotas


def refused(jobs: Jobs, owner: Owner) -> ServiceError:
    with pytest.raises(ServiceError) as error:
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


def test_so_many_reports_of_a_requester_wait(jobs: Jobs):
    greedy, other = Requester("key greedy", 2), Requester("address 192.0.2.1", 2)
    first, _ = jobs.submit(REPORT, {}, None, 10, None, greedy)
    jobs.submit(REPORT, {}, "second", 10, None, greedy)
    with pytest.raises(ServiceError) as error:
        jobs.submit(REPORT, {}, None, 10, None, greedy)
    assert error.value.code == "quota_exceeded"
    assert str(error.value).startswith("2 reports of the key greedy wait, as many as may;")
    assert error.value.details == {"limit": 2}
    assert not jobs.submit(REPORT, {}, "second", 10, None, greedy)[1]  # known already: asks for nothing
    jobs.submit(REPORT, {}, None, 10, None, other)
    jobs.cancel(first.id)
    jobs.submit(REPORT, {}, None, 10, None, greedy)
    assert jobs.requester(first.id) == "key greedy"


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
    with jobs.database.engine.connect() as connection:
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
        broken.setattr(jobs._client, "enqueue_in_transaction", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jobs.submit(REPORT, {}, None, 10, ann)
    jobs.submit(REPORT, {}, None, 10, ann)


def at_once(processes: list[Jobs], ask: Callable[[Jobs], bool]) -> list[bool | str]:
    """What each of them answers, or the code of its error, where all begin together."""
    barrier = threading.Barrier(len(processes))

    def begin(one: Jobs) -> bool | str:
        barrier.wait()
        try:
            return ask(one)
        except ServiceError as error:
            return error.code

    with ThreadPoolExecutor(len(processes)) as pool:
        return sorted(pool.map(begin, processes), key=str)


def counted(jobs: Jobs) -> int:
    """The reports that count as asked for."""
    with jobs.database.engine.connect() as connection:
        return connection.execute(quota.sa.select(quota.USAGE.c.reports)).scalar_one()


def test_one_idempotency_key_makes_one_report_however_many_ask_at_once(jobs: Jobs, processes: list[Jobs]):
    ann = Owner("ann", reports_per_day=TOGETHER)
    new = at_once(processes, lambda one: one.submit(REPORT, {}, "key", 10, ann)[1])
    assert new == [False] * (TOGETHER - 1) + [True]
    assert counted(jobs) == 1


def test_who_comes_second_with_another_request_pays_nothing(jobs: Jobs, processes: list[Jobs]):
    ann = Owner("ann", reports_per_day=TOGETHER)
    bodies = {id(one): {**REPORT, "n": n} for n, one in enumerate(processes)}
    told = at_once(processes, lambda one: one.submit(bodies[id(one)], {}, "key", 10, ann)[1])
    assert told == [True] + ["idempotency_mismatch"] * (TOGETHER - 1)
    assert counted(jobs) == 1


@pytest.mark.parametrize(
    ("owner", "limit", "code"),
    [
        (Owner("ann", stored_reports=2), 10, "quota_exceeded"),
        (Owner("ann", reports_per_day=2), 10, "quota_exceeded"),
        (Owner("ann"), 2, "too_busy"),
    ],
)
def test_no_limit_is_passed_by_asking_at_once(processes: list[Jobs], owner: Owner, limit: int, code: str):
    told = at_once(processes, lambda one: one.submit(REPORT, {}, None, limit, owner)[1])
    assert told == [True] * 2 + [code] * (TOGETHER - 2)


def test_the_quota_of_a_key_goes_before_that_of_the_settings():
    call = Call(caller=keys.parse(entry("ann", "x", "read", reports_per_day=0, stored_reports=7), "test")[0].caller)
    assert owner(call, Settings(reports_per_day=3, stored_reports=4)) == Owner("ann", 0, 7)
    call = Call(caller=keys.parse(entry("bob", "x", "read"), "test")[0].caller)
    assert owner(call, Settings(reports_per_day=3, stored_reports=4)) == Owner("bob", 3, 4)
    assert owner(Call(), Settings(reports_per_day=3)) is None
    assert requester(call, Settings(waiting_reports=5)) == Requester("key bob", 5)
    assert requester(Call(client="192.0.2.1"), Settings()) == Requester("address 192.0.2.1", 0)
