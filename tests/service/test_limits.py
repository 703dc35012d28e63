"""How much may be asked at once: bodies, pixels, waiting, computing. In this process, where that can show it."""

import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import httpx
import numpy as np
import pytest

from gauntlet import images
from gauntlet.errors import DeadlineExceeded, InvalidInput
from service.errors import CALL, Call, Code, ServiceError
from service.http import codec
from service.http.body import Bodies, Body
from service.http.lanes import Lane
from tests.service.conftest import Server, arrays, encoded, wait_for
from tests.service.door import Caller, code, door
from tests.service.test_attack import SLOW

MEGA = encoded(np.zeros((1000, 1000), np.uint8))
JSON = {"Content-Type": "application/json"}
PAGE = "https://page.example"
PATIENCE = 60.0  # seconds after which a test that would hang fails


# Bodies


async def chunks(*parts: bytes, end: bool = True) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if not end:
        await anyio.sleep_forever()


@pytest.mark.parametrize("path", ["/classify", "/robustness-report/x/cancel"])
def test_a_body_is_cut_off_at_its_limit_whether_it_says_its_length_or_not(settings, path: str):
    settings(max_body=1000)
    call = Caller(door(), **JSON)
    assert call("POST", path, content=b"x" * 1000).json() == {"size": 1000}
    assert call("POST", path, content=chunks(b"x" * 500, b"x" * 500)).json() == {"size": 1000}
    assert code(call("POST", path, content=b"x" * 1001)) == (413, "too_large")
    assert code(call("POST", path, content=chunks(b"x" * 500, b"x" * 501, end=False))) == (413, "too_large")


def test_a_body_that_does_not_come_is_not_waited_for(settings):
    settings(body_seconds=0.05)
    call = Caller(door(), **JSON)
    slow = call("POST", "/classify", content=chunks(b"x", end=False))
    assert code(slow) == (408, "body_too_slow")
    assert slow.headers["connection"] == "close"  # what comes after all would be read as another request
    assert code(call("POST", "/classify", content=chunks(end=False))) == (408, "body_too_slow")


def test_the_bodies_of_all_requests_together_are_bounded_and_given_back(settings):
    settings(max_bodies=1500, max_body=1000)
    inside, done, others = threading.Event(), threading.Event(), []

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        body = await receive()
        if len(body["body"]) == 1000:
            inside.set()
            await anyio.to_thread.run_sync(done.wait, PATIENCE)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    call = Caller(door(slow), **JSON)
    first = threading.Thread(target=lambda: others.append(call("POST", "/classify", content=b"x" * 1000)))
    first.start()
    try:
        assert inside.wait(PATIENCE)
        refused = call("POST", "/classify", content=b"x" * 501)
        assert code(refused) == (503, "overloaded")
        assert refused.headers["retry-after"]
        assert code(call("POST", "/classify", content=chunks(b"x" * 501))) == (503, "overloaded")
        assert call("POST", "/classify", content=b"x" * 500).status_code == 200
    finally:
        done.set()
        first.join()
    assert others[0].status_code == 200
    assert call("POST", "/classify", content=b"x" * 501).status_code == 200


def test_a_client_that_has_gone_is_heard_after_the_body():
    messages: list[Any] = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c"},
        {"type": "http.request"},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def read() -> int:
        body = Body(receive, bodies := Bodies(10, 10, 60))
        await body()
        await body()
        held = bodies.held
        await body.gone()
        body.close()
        assert bodies.held == 0
        return held

    assert anyio.run(read) == 3
    assert messages == []


# Pixels


def test_too_many_pixels_are_refused_before_any_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "from_bytes", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ServiceError, match="at most 64000000 pixels") as refused:
        codec.decode([MEGA] * 65, (1, 8, 8), resize=True, limit=1000)
    assert (refused.value.code, refused.value.details["field"]) == (Code.INVALID, "images.64")


def test_a_bad_image_among_those_that_are_counted_is_named():
    with pytest.raises(InvalidInput, match=r"images\.1: not a readable") as refused:
        codec.decode([MEGA, "AAAA"], (1, 8, 8), resize=True, limit=1000)
    assert refused.value.field == "images.1"
    with pytest.raises(InvalidInput, match=r"images\.1: not valid base64"):
        codec.decode([MEGA, "AAA"], (1, 8, 8), resize=True, limit=1000)


def test_what_is_not_resized_is_refused_by_its_size_alone():
    with pytest.raises(InvalidInput, match="expects 8x8"):
        codec.decode([MEGA] * 65, (1, 8, 8), resize=False, limit=1000)
    assert codec.decode([MEGA] * 2, (1, 8, 8), resize=True, limit=1000).shape == (2, 1, 8, 8)


# Lanes


@pytest.fixture
def gone() -> Iterator[anyio.Event]:
    """Set it and the client of this test's calls has hung up."""
    event = anyio.Event()
    token = CALL.set(Call(gone=event.wait))
    yield event
    CALL.reset(token)


async def outcome(work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except (ServiceError, DeadlineExceeded) as error:
        return error


def turn(stop: Callable[[], None], running: threading.Event) -> None:
    """Work that ends only when it is stopped."""
    running.set()
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        stop()


def test_work_stops_once_its_client_has_gone(gone: anyio.Event):
    lane, running = Lane(1, 0, "attacks"), threading.Event()

    async def main() -> tuple[Any, Any]:
        async def leave() -> None:
            await anyio.to_thread.run_sync(running.wait, PATIENCE)
            gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            error = await outcome(lambda: lane.run_at_length(lambda stop: turn(stop, running), 600, ""))
        CALL.set(Call())
        return error, await outcome(lambda: lane.run_at_length(lambda _: "free again", 600, ""))

    error, after = anyio.run(main)
    assert error.code is Code.CLIENT_GONE
    assert after == "free again"


def test_who_has_gone_waits_no_longer_and_computes_nothing(gone: anyio.Event):
    lane, release, running = Lane(1, 1, "attacks"), threading.Event(), threading.Event()
    computed: list[str] = []

    def hold(_: object) -> None:
        running.set()
        release.wait(PATIENCE)

    async def main() -> tuple[Any, Any]:
        async def other() -> None:
            CALL.set(Call())
            await lane.run_at_length(hold, 600, "")

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await anyio.to_thread.run_sync(running.wait, PATIENCE)
            gone.set()
            error = await outcome(lambda: lane.run_at_length(lambda _: computed.append("x"), 600, ""))
            CALL.set(Call())
            group.start_soon(lambda: lane.run_at_length(lambda _: computed.append("y"), 600, ""))  # its place is free
            await anyio.wait_all_tasks_blocked()
            full = await outcome(lambda: lane.run_at_length(lambda _: computed.append("z"), 600, ""))
            release.set()
        return error, full

    error, full = anyio.run(main)
    assert (error.code, full.code) == (Code.CLIENT_GONE, Code.TOO_BUSY)
    assert computed == ["y"]


def test_the_time_runs_while_waiting_and_while_computing():
    lane, running = Lane(1, 1, "attacks"), threading.Event()

    async def main() -> list[Any]:
        found: list[Any] = []

        async def ask(seconds: float) -> None:
            found.append(await outcome(lambda: lane.run_at_length(lambda s: turn(s, running), seconds, "less")))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, 0.3)
            await anyio.to_thread.run_sync(running.wait, PATIENCE)
            await ask(0.01)
        return found

    waited, computed = anyio.run(main)
    assert isinstance(waited, DeadlineExceeded)
    assert str(waited) == "this was given 0.01 s; less"
    assert str(computed) == "this was given 0.3 s; less"


def test_predictions_have_a_queue_of_their_own_that_is_bounded():
    fast, slow = Lane(1, 1, "predictions"), Lane(1, 0, "attacks")
    release, running = threading.Event(), [threading.Event(), threading.Event()]

    def hold(i: int) -> None:
        running[i].set()
        release.wait(PATIENCE)

    async def main() -> tuple[Any, Any, Any]:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: slow.run_at_length(lambda _: hold(0), 600, ""))
            await anyio.to_thread.run_sync(running[0].wait, PATIENCE)
            beside = await fast.run(lambda: "beside the attack")
            group.start_soon(lambda: fast.run(lambda: hold(1)))
            await anyio.to_thread.run_sync(running[1].wait, PATIENCE)
            group.start_soon(lambda: fast.run(lambda: None))
            await anyio.wait_all_tasks_blocked()
            full = await outcome(lambda: fast.run(lambda: None))
            release.set()
        return beside, full, await fast.run(lambda: "and after")

    beside, full, after = anyio.run(main)
    assert (beside, after) == ("beside the attack", "and after")
    assert full.code is Code.TOO_BUSY
    assert str(full) == "too many predictions wait already; try again later"


def test_an_attack_whose_client_hangs_up_stops(server: Server):
    """The real thing: the lane is free long before the attack's deadline."""
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/attack", json={**SLOW, "images": arrays(1)}, headers={"X-Request-ID": "gone"}, timeout=0.5)

    def accounted() -> list[dict[str, Any]]:
        entries = map(json.loads, (server.folder / "log").read_text().splitlines())
        return [entry for entry in entries if entry.get("request_id") == "gone"]

    (entry,) = wait_for(accounted)
    assert entry["status"] == 499
