"""X-Forwarded-For counts where a proxy that the settings name says it: in limits and in the audit log."""

import os

import pytest

from service.settings import Settings, SettingsError
from tests.service.in_process import LINES, Caller, door

PROXY, CLIENT, SPOOFED = "192.0.2.1", "203.0.113.9", "198.51.100.7"


@pytest.mark.parametrize(
    ("trusted", "forwarded", "found"),
    [
        ("", CLIENT, PROXY),
        ("", f"{SPOOFED}, {CLIENT}", PROXY),
        ("192.0.2.2", CLIENT, PROXY),  # of another proxy
        ("192.0.2.1", CLIENT, CLIENT),
        ("192.0.2.0/24", CLIENT, CLIENT),
        ("192.0.2.1", f"{SPOOFED}, {CLIENT}", CLIENT),  # what the client said before the proxy did
        ("192.0.2.1, 10.0.0.0/8", f"{SPOOFED}, {CLIENT}, 10.1.2.3", CLIENT),  # two proxies
        ("192.0.2.1", "", PROXY),
        ("192.0.2.1", "2001:db8::1", "2001:db8::1"),
        ("192.0.2.1", "x" * 1000, "x" * 64),
    ],
)
def test_whom_the_audit_names(settings, audit, trusted: str, forwarded: str, found: str):
    settings(api_keys=LINES, trusted_proxies=trusted)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert Caller(door(), PROXY)("GET", "/models", headers=headers).status_code == 401
    assert [line["client"] for line in audit()] == [found]


def test_a_client_cannot_escape_the_limit_of_wrong_keys_by_naming_others(settings):
    settings(api_keys=LINES)
    call = Caller(door(), CLIENT)
    answers = [call("GET", "/models", key="guess", headers={"X-Forwarded-For": f"192.0.2.{i}"}) for i in range(16)]
    assert [answer.status_code for answer in answers] == [401] * 15 + [429]


def test_clients_behind_a_proxy_are_limited_one_by_one(settings):
    settings(api_keys="", requests_per_minute=4, trusted_proxies=PROXY)
    call = Caller(door(), PROXY)

    def ask(client: str) -> int:
        return call("GET", "/models", headers={"X-Forwarded-For": client}).status_code

    assert [ask(CLIENT), ask(CLIENT), ask("203.0.113.10")] == [200, 429, 200]


def test_uvicorns_own_belief_is_off():
    """It would take the word of every process of this machine."""
    assert os.environ["FORWARDED_ALLOW_IPS"] == ""


def test_what_is_no_network_is_refused(monkeypatch):
    monkeypatch.setenv("GAUNTLET_TRUSTED_PROXIES", "proxy.example")
    with pytest.raises(SettingsError, match="GAUNTLET_TRUSTED_PROXIES"):
        Settings.load()
