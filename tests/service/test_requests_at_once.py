"""How many requests of one requester are answered at the same time, and which limit holds for whom."""

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse

from service.auth.limits import OF_A_KEY, limit
from service.auth.requests_at_once import RequestsAtOnce
from service.request_context import Caller, Scope
from service.settings import Settings
from tests.service.conftest import ROOT
from tests.service.in_process import door, entry, told

ENTER = """
import sys
from pathlib import Path
from service.auth.requests_at_once import RequestsAtOnce
print([RequestsAtOnce(Path(sys.argv[1])).enter("a", 3) for _ in range(2)])
"""


def test_so_many_are_answered_until_one_has_been():
    counts = RequestsAtOnce()
    assert [counts.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert counts.enter("b", 2)
    counts.leave("a")
    assert counts.enter("a", 2)


def test_processes_count_together_and_those_that_have_ended_count_no_more(tmp_path: Path):
    ours = RequestsAtOnce(tmp_path / "rates")
    assert ours.enter("a", 3)
    command = [sys.executable, "-c", ENTER, str(tmp_path / "rates")]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout == "[True, True]\n"
    assert [ours.enter("a", 3) for _ in range(3)] == [True, True, False]  # its two were forgotten


def test_a_process_forgets_what_one_with_its_number_has_left(tmp_path: Path):
    assert RequestsAtOnce(tmp_path / "rates", 7).enter("a", 1)
    assert RequestsAtOnce(tmp_path / "rates", 7).enter("a", 1)


def test_a_file_that_cannot_be_written_limits_nobody_and_the_log_says_so(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr("service.auth.requests_at_once.LOGGER.propagate", True)
    (tmp_path / "in the way").touch()
    counts = RequestsAtOnce(tmp_path / "in the way" / "rates")
    assert [counts.enter("a", 1) for _ in range(2)] == [True, True]
    counts.leave("a")
    assert "requests at once are not limited" in caplog.text


@pytest.mark.parametrize("name", OF_A_KEY)
def test_a_key_is_limited_by_itself_else_by_the_settings_else_by_default(name):
    plain, own = Caller("a", Scope.READ), Caller("a", Scope.READ, **{name: 7})
    assert limit(name, own, Settings(**{name: 5})) == 7
    assert limit(name, Caller("a", Scope.READ, **{name: 0}), Settings()) == 0
    assert limit(name, plain, Settings(**{name: 5})) == 5
    assert limit(name, plain, Settings(**{name: 0})) == 0
    assert limit(name, plain, Settings()) == OF_A_KEY[name] > 0
    assert limit(name, None, Settings(**{name: 5})) == 5
    assert limit(name, None, Settings()) == 0


def test_a_key_has_so_many_requests_answered_at_once(settings):
    settings(api_keys="\n".join(entry(name, name, "read", requests_at_once=2) for name in "ab"))
    release = asyncio.Event()

    async def app(scope, receive, send) -> None:
        await release.wait()
        await JSONResponse({})(scope, receive, send)

    async def main() -> None:
        transport = httpx.ASGITransport(door(app), client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def ask(key: str) -> httpx.Response:
                return await client.get("/models", headers={"X-API-Key": key})

            held = [asyncio.create_task(ask(key)) for key in "aab"]
            await asyncio.sleep(0)
            refused = await ask("a")
            release.set()
            assert [answer.status_code for answer in await asyncio.gather(*held)] == [200] * 3
            error = told(refused)
            assert error["code"] == "rate_limited"
            assert error["message"].startswith("2 requests of the key a are being answered, as many as may be at once")
            assert [(await ask("a")).status_code for _ in range(3)] == [200] * 3  # each has left

    asyncio.run(main())
