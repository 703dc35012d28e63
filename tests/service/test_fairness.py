"""One key asks for all that it can; another is answered all the same. The whole application, in this process."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from service.compute import smoothed_classification
from service.settings import Settings
from tests import tiny
from tests.service.conftest import PATIENCE, arrays, pngs
from tests.service.in_process import SECRETS, Caller, door, entry, told
from tests.service.models import api

SMOOTHED = {"model": "linear", "images": arrays(1), "smoothing": {"sigma": 0.1, "samples": 1000}}
ATTACK = {"model": "linear", "attack": "fgsm", "images": pngs(1), "norm": "l2", "eps": 0.1}
QUEUE = 4


@pytest.fixture
def keyed(settings, tmp_path: Path) -> ASGIApp:
    """A service with the keys ``greedy`` and ``other`` beside those of every scope."""
    tiny.linear(tmp_path / "models/artifacts/linear")
    (tmp_path / "models/evalsets").mkdir()
    keys = [entry(name, name, "attack") for name in ("greedy", "other")]
    settings(
        models=tmp_path / "models",
        data=tmp_path,
        threads=1,
        api_workers=1,
        attack_queue=QUEUE,
        api_keys="\n".join([*keys, entry("read", SECRETS["read"], "read")]),
    )
    return door(api(Settings.load()))


def test_smoothing_needs_the_scope_of_an_attack(keyed: ASGIApp, audit):
    refused = told(Caller(keyed)("POST", "/classify", key=SECRETS["read"], json=SMOOTHED))
    assert refused["code"] == "forbidden"
    assert refused["details"] == {"scope": "attack"}
    assert [line["audit"] for line in audit()] == ["scope refused"]
    plain = {name: SMOOTHED[name] for name in ("model", "images")}
    assert Caller(keyed)("POST", "/classify", key=SECRETS["read"], json=plain).status_code == 200


def test_an_attack_is_answered_beside_a_key_that_fills_the_queue(keyed: ASGIApp, monkeypatch):
    """Nine requests of one key, none of which ends by itself; then one image of another."""
    begun, release = threading.Event(), threading.Event()
    certify = smoothed_classification.certify

    def endless(*arguments: Any, check_cancelled: Any, **options: Any) -> Any:
        begun.set()
        while not release.wait(0.001):
            check_cancelled()
        return certify(*arguments, check_cancelled=check_cancelled, **options)

    monkeypatch.setattr(smoothed_classification, "certify", endless)

    async def main() -> tuple[httpx.Response, list[httpx.Response]]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(keyed, client=("192.0.2.1", 1)), base_url="http://localhost", timeout=PATIENCE
        ) as client:

            def ask(key: str, path: str, body: object) -> "asyncio.Task[httpx.Response]":
                return asyncio.create_task(client.post(path, json=body, headers={"X-API-Key": key}))

            greedy = [ask("greedy", "/classify", SMOOTHED) for _ in range(9)]
            assert await asyncio.to_thread(begun.wait, PATIENCE)
            refused = 9 - 1 - QUEUE
            while sum(task.done() for task in greedy) < refused:
                await asyncio.sleep(0.01)
            other = await ask("other", "/attack", ATTACK)
            while sum(task.done() for task in greedy) < refused + 1:  # one place was the other's for a moment
                await asyncio.sleep(0.01)
            assert sum(task.done() for task in greedy) == refused + 1
            release.set()
            return other, await asyncio.gather(*greedy)

    other, greedy = asyncio.run(main())
    assert other.status_code == 200, other.text
    full = [answer for answer in greedy if answer.status_code != 200]
    assert len(full) == 9 - QUEUE
    assert {told(answer)["code"] for answer in full} == {"too_busy"}
    assert {told(answer)["message"].partition(";")[0] for answer in full} == {
        f"as many attacks and certificates wait as may, {QUEUE}, {QUEUE} of them yours",
        f"as many attacks and certificates wait as may, {QUEUE}, {QUEUE - 1} of them yours",
    }
