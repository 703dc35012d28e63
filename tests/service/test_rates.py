"""How often somebody may ask."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from service.auth.rates import RateLimiter
from service.request_context import client_network
from tests.service.conftest import ROOT
from tests.service.in_process import LINES, SECRETS, Caller, door, entry, told


@pytest.fixture(autouse=True)
def _keys(settings, monkeypatch) -> None:
    """Keys of every scope, and a clock that stands still."""
    settings(api_keys=LINES)
    monkeypatch.setattr(RateLimiter.__init__, "__defaults__", (None, lambda: 0.0))


def test_a_bucket_fills_with_time_and_says_how_long_to_wait():
    now = 0.0
    buckets = RateLimiter(clock=lambda: now)
    assert [buckets.take("a", 8) for _ in range(3)] == [0, 0, 8]  # 8 a minute: two at once, one in 7.5 s
    assert buckets.take("b", 8) == 0
    now = 7.4
    assert buckets.take("a", 8) == 1
    now = 7.6
    assert [buckets.take("a", 8) for _ in range(2)] == [0, 8]
    now = 1000
    assert [buckets.take("a", 8) for _ in range(3)] == [0, 0, 8]


def test_full_buckets_are_forgotten_and_are_full_all_the_same(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("service.auth.rates.PURGE", 2)
    now = 0.0
    buckets = RateLimiter(tmp_path / "rates", lambda: now)
    assert [buckets.take(who, 60) for who in "ab"] == [0, 0]
    now = 100.0
    assert [buckets.take("c", 1) for _ in range(2)] == [0, 60]
    with contextlib.closing(sqlite3.connect(tmp_path / "rates")) as database:
        assert database.execute("select name from buckets").fetchall() == [("c",)]
    assert buckets.take("a", 1) == 0


TAKE = """
import sys, time
from pathlib import Path
from service.auth.rates import RateLimiter
buckets = RateLimiter(Path(sys.argv[1]), lambda: 0.0)
print("ready", flush=True)
sys.stdin.readline()
print(sum(buckets.take("a", 400) == 0 for _ in range(300)))
"""


def test_several_processes_share_a_bucket_to_the_last_token(tmp_path: Path):
    """A hundred tokens, and two processes that take as fast as they can."""
    command = [sys.executable, "-c", TAKE, str(tmp_path / "rates")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate()[0]) for process in both) == 100


def test_a_file_that_cannot_be_written_limits_nobody_and_the_log_says_so(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("service.auth.rates.LOGGER.propagate", True)
    (tmp_path / "in the way").touch()
    buckets = RateLimiter(tmp_path / "in the way" / "rates")
    assert [buckets.take("a", 1) for _ in range(2)] == [0, 0]
    assert "requests are not limited" in caplog.text


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
    assert client_network(host) == client


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
