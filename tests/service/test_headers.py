"""What answers tell browsers, and which pages may ask."""

import httpx
import pytest

from service.request_context import Scope
from service.settings import Settings, SettingsError
from tests.service.in_process import LINES, SECRETS, Caller, code, door

PAGE = "https://page.example"


def test_every_answer_tells_browsers_to_be_careful():
    call = Caller(door())
    for answer in (call("GET", "/models"), call("GET", "/nothing"), call("PUT", "/models"), call("POST", "/classify")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"


def preflight(call: Caller, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return call("OPTIONS", "/classify", headers=headers)


def test_pages_of_other_origins_may_not_ask_unless_they_are_listed(settings):
    call = Caller(door())
    assert code(preflight(call, PAGE)) == (405, "method_not_allowed")
    assert "access-control-allow-origin" not in call("GET", "/models", headers={"Origin": PAGE}).headers
    assert code(call("POST", "/classify", headers={"Origin": PAGE})) == (403, "forbidden")
    assert code(call("POST", "/classify", headers={"Origin": "null"})) == (403, "forbidden")
    assert call("POST", "/classify", headers={"Origin": "http://localhost"}).status_code == 200
    settings(cors_origins=f"https://another.example, {PAGE}")
    call = Caller(door())
    allowed = preflight(call, PAGE)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
    assert preflight(call, "https://evil.example").status_code == 400
    answer = call("POST", "/classify", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    assert code(call("POST", "/classify", headers={"Origin": "https://evil.example"})) == (403, "forbidden")
    refused = call("POST", "/nothing", headers={"Origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, PAGE)
    settings(cors_origins="*")
    assert Caller(door())("POST", "/classify", headers={"Origin": PAGE}).status_code == 200


def test_an_origin_that_is_no_address_is_another(settings):
    assert code(Caller(door())("POST", "/classify", headers={"Origin": "http://[::1"})) == (403, "forbidden")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:3000", 200),
        ("models.localhost", 200),
        ("127.0.0.1:3000", 200),
        ("[::1]:3000", 200),
        ("10.0.0.7", 200),  # nobody owns an address as they own a name
        ("rebound.example:3000", 403),
        ("localhost.rebound.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_without_keys_a_name_that_somebody_else_may_own_is_refused(settings, host: str, status: int):
    """Such a name can be made to lead here while its page is open."""
    headers = {"Host": host}
    assert Caller(door())("POST", "/classify", headers=headers).status_code == status
    settings(open="1")
    assert Caller(door())("POST", "/classify", headers=headers).status_code == 200


def test_with_keys_any_name_will_do(settings):
    settings(api_keys=LINES)
    answer = Caller(door())("POST", "/classify", headers={"Host": "gauntlet.example"}, key=SECRETS[Scope.READ])
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "origins", ["page.example", "https://page.example/path", "https://a.example https://b.example"]
)
def test_an_origin_that_is_none_is_refused_at_the_start(settings, origins: str):
    settings(cors_origins=origins)
    with pytest.raises(SettingsError, match="GAUNTLET_CORS_ORIGINS"):
        Settings.load()
