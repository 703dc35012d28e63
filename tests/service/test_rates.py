"""How often somebody may ask."""

import pytest

from service.access.rates import Buckets, neighbourhood
from tests.service.door import LINES, SECRETS, Caller, door, entry, told


@pytest.fixture(autouse=True)
def _keys(settings) -> None:
    settings(api_keys=LINES)


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
    monkeypatch.setattr("service.access.rates.FORGOTTEN", 2)
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
