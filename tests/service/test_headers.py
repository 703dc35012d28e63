"""What answers tell browsers, and which pages may ask."""

import httpx
import pytest

from service.settings import Settings, SettingsError
from tests.service.door import Caller, code, door

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


def test_no_page_runs_a_script(client: httpx.Client):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "<script" not in client.get("/").text


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
    assert call("POST", "/classify", headers={"Origin": "http://service.test"}).status_code == 200
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


@pytest.mark.parametrize(
    "origins", ["page.example", "https://page.example/path", "https://a.example https://b.example"]
)
def test_an_origin_that_is_none_is_refused_at_the_start(settings, origins: str):
    settings(cors_origins=origins)
    with pytest.raises(SettingsError, match="GAUNTLET_CORS_ORIGINS"):
        Settings.load()
