"""How much may be asked at once: bodies, pixels, waiting, computing. In this process, where that can show it."""

import asyncio
import codecs
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import httpx
import numpy as np
import pytest
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from gauntlet.artifacts import picture_decoder
from gauntlet.errors import DeadlineExceeded, InvalidInput
from service.compression import WINDOWS, shrink
from service.errors import Code, ServiceError
from service.middleware import body_limits
from service.middleware.body_limits import BodyLimits, RequestBody
from service.request_context import CALL, Call
from service.scheduling.bounded_queue import BoundedQueue
from service.schemas import image_codec
from tests.service.conftest import PATIENCE, Server, arrays, encoded, wait_for
from tests.service.in_process import Caller, code, door
from tests.service.test_attack import SLOW

MEGA = encoded(np.zeros((1000, 1000), np.uint8))
JSON = {"Content-Type": "application/json"}
PAGE = "https://page.example"


# BodyLimits


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


@pytest.fixture(autouse=True)
def soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of these tests that says no more will say nothing."""
    monkeypatch.setattr(body_limits, "QUIET", 0.01)


@pytest.mark.parametrize("path", ["/classify", "/robustness-report/x/cancel", "/models", "/v2/models/linear/infer"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_bounded_before_and_after_it_is_expanded(settings, path: str, encoding: str):
    settings(max_body=100_000, max_upload=100_000)
    media = "multipart/form-data; boundary=x" if path == "/models" else "application/json"
    call = Caller(door(), **{"Content-Type": media, "Content-Encoding": encoding})
    assert call("POST", path, content=shrink(b"x" * 100_000, encoding)).json() == {"size": 100_000}
    for bomb in (shrink(b"x" * 100_001, encoding), shrink(bytes(10**8), encoding)):
        for content in (bomb, chunks(bomb[:50], bomb[50:])):
            answer = call("POST", path, content=content)
            assert answer.status_code == 413
            assert "100000 bytes" in answer.text
    start = zlib.compressobj(wbits=WINDOWS[encoding]).flush(zlib.Z_FULL_FLUSH)
    nothing = start + b"\0\0\0\xff\xff" * 30_000  # blocks that expand to not a byte
    assert call("POST", path, content=nothing).status_code == 413
    assert call("POST", path, content=b"no gzip").status_code == 400
    refused = call("POST", path, content=b"x", headers={"Content-Encoding": "br"})
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip, deflate")


def test_a_file_may_be_larger_than_other_bodies_and_is_not_held(settings):
    settings(max_body=1000, max_bodies=1000, max_upload=100_000)
    call = Caller(door(), **{"Content-Type": "multipart/form-data; boundary=x"})
    assert call("POST", "/models", content=b"x" * 100_000).json() == {"size": 100_000}
    assert call("POST", "/evalsets", content=chunks(*[b"x" * 10_000] * 10)).json() == {"size": 100_000}
    assert code(call("POST", "/models", content=b"x" * 100_001)) == (413, "too_large")
    assert code(call("POST", "/models", content=chunks(b"x" * 50_000, b"x" * 50_001, end=False))) == (413, "too_large")
    assert call("POST", "/classify", content=b"x" * 1000, headers=JSON).json() == {"size": 1000}


def test_a_file_may_take_longer_the_more_of_it_has_come():
    async def receive() -> Any:
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    async def more(file: bool) -> float:
        """Seconds that a part of 1,000 bytes adds to those in which the body has to come."""
        limits = BodyLimits(10_000, 10_000, 60)
        body = RequestBody(receive, limits, Headers({"Transfer-Encoding": "chunked"}))
        if file:
            body.pass_on(limits)
        before = body.due
        await body()
        return body.due - before

    assert asyncio.run(more(file=False)) == 0
    assert asyncio.run(more(file=True)) == pytest.approx(1000 / body_limits.SLOWEST)


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4])
def test_a_byte_order_mark_before_json_is_passed_over(cut: int):
    text = codecs.BOM_UTF8 + b"{}"
    call = Caller(door(), **JSON)
    assert call("POST", "/classify", content=chunks(text[:cut], text[cut:])).json() == {"size": 2}
    assert call("POST", "/classify", content=codecs.BOM_UTF8).json() == {"size": 0}
    assert call("POST", "/classify", content=chunks(b"{", b"}")).json() == {"size": 2}
    assert call("POST", "/classify", content=b"").json() == {"size": 0}


@pytest.mark.parametrize(("path", "found"), [("/models/", 200), ("/models/x/", 200), ("/nothing/", 404)])
def test_a_slash_at_the_end_finds_the_route(path: str, found: int):
    async def told(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"path": scope["path"]})(scope, receive, send)

    answer = Caller(door(told))("GET", path)
    assert answer.status_code == found
    assert found == 404 or answer.json() == {"path": path.removesuffix("/")}


def test_a_slash_that_is_part_of_a_name_is_no_slash_at_the_end():
    assert Caller(door())("GET", "/models/x%2F").status_code == 404


def test_a_body_that_does_not_come_is_not_waited_for(settings):
    settings(body_seconds=0.05)
    call = Caller(door(), **JSON)
    slow = call("POST", "/classify", content=chunks(b"x", end=False))
    assert code(slow) == (408, "body_too_slow")
    assert slow.headers["connection"] == "close"  # what comes after all would be read as another request
    assert code(call("POST", "/classify", content=chunks(end=False))) == (408, "body_too_slow")


def test_the_bodies_of_all_requests_together_are_bounded_and_given_back(settings):
    settings(max_bodies=3000, max_body=1000, api_workers=2)  # half of them are this process's
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
        body = RequestBody(receive, bodies := BodyLimits(10, 10, 60), Headers({"Transfer-Encoding": "chunked"}))
        await body()
        await body()
        held = bodies.held
        await body.disconnected()
        body.close()
        assert bodies.held == 0
        return held

    assert anyio.run(read) == 3
    assert messages == []


# Pixels


def test_too_many_pixels_are_refused_before_any_is_decoded(monkeypatch):
    monkeypatch.setattr(picture_decoder, "decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ServiceError, match="at most 64000000 pixels") as refused:
        image_codec.decode([MEGA] * 65, (1, 8, 8), resize=True, limit=1000)
    assert (refused.value.code, refused.value.details["field"]) == (Code.INVALID, "images.64")


def test_a_bad_image_among_those_that_are_counted_is_named():
    with pytest.raises(InvalidInput, match=r"images\.1: not a readable") as refused:
        image_codec.decode([MEGA, "AAAA"], (1, 8, 8), resize=True, limit=1000)
    assert refused.value.field == "images.1"
    with pytest.raises(InvalidInput, match=r"images\.1: not valid base64"):
        image_codec.decode([MEGA, "AAA"], (1, 8, 8), resize=True, limit=1000)


def test_what_is_not_resized_is_refused_by_its_size_alone():
    with pytest.raises(
        InvalidInput, match="8x8 grey images are expected, this one is 1000x1000 grey; send resize=true"
    ):
        image_codec.decode([MEGA] * 65, (1, 8, 8), resize=False, limit=1000)
    assert image_codec.decode([MEGA] * 2, (1, 8, 8), resize=True, limit=1000).shape == (2, 1, 8, 8)


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(image_codec, "LARGE", 100)
    whole, inside, most = picture_decoder.decode, threading.Semaphore(0), []

    def watched(*given: Any, **more: Any) -> Any:
        inside.release()
        most.append(inside._value)
        made = whole(*given, **more)
        inside.acquire()
        return made

    monkeypatch.setattr(picture_decoder, "decode", watched)
    threads = [
        threading.Thread(target=lambda: image_codec.decode([MEGA] * 3, (1, 8, 8), resize=True, limit=9))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12


# Lanes


@pytest.fixture
def gone() -> Iterator[anyio.Event]:
    """Set it and the client of this test's calls has hung up."""
    event = anyio.Event()
    token = CALL.set(Call(disconnected=event.wait))
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
    lane, running = BoundedQueue(1, 0, "attacks"), threading.Event()

    async def main() -> tuple[Any, Any]:
        async def leave() -> None:
            await anyio.to_thread.run_sync(running.wait, PATIENCE)
            gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            error = await outcome(lambda: lane.run_with_deadline(lambda stop: turn(stop, running), 600, ""))
        CALL.set(Call())
        return error, await outcome(lambda: lane.run_with_deadline(lambda _: "free again", 600, ""))

    error, after = anyio.run(main)
    assert error.code is Code.CLIENT_GONE
    assert after == "free again"


def test_who_has_gone_waits_no_longer_and_computes_nothing(gone: anyio.Event):
    lane, release, running = BoundedQueue(1, 1, "attacks"), threading.Event(), threading.Event()
    computed: list[str] = []

    def hold(_: object) -> None:
        running.set()
        release.wait(PATIENCE)

    async def main() -> tuple[Any, Any]:
        async def other() -> None:
            CALL.set(Call())
            await lane.run_with_deadline(hold, 600, "")

        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await anyio.to_thread.run_sync(running.wait, PATIENCE)
            gone.set()
            error = await outcome(lambda: lane.run_with_deadline(lambda _: computed.append("x"), 600, ""))
            CALL.set(Call())
            group.start_soon(
                lambda: lane.run_with_deadline(lambda _: computed.append("y"), 600, "")
            )  # its place is free
            await anyio.wait_all_tasks_blocked()
            full = await outcome(lambda: lane.run_with_deadline(lambda _: computed.append("z"), 600, ""))
            release.set()
        return error, full

    error, full = anyio.run(main)
    assert (error.code, full.code) == (Code.CLIENT_GONE, Code.TOO_BUSY)
    assert computed == ["y"]


def test_the_time_runs_while_waiting_and_while_computing():
    lane, running, release = BoundedQueue(1, 1, "attacks"), threading.Event(), threading.Event()

    def hold(_: object) -> None:
        running.set()
        release.wait(PATIENCE)

    async def main() -> tuple[Any, Any]:
        async def ask(seconds: float) -> Any:
            return await outcome(lambda: lane.run_with_deadline(lambda check: turn(check, running), seconds, "less"))

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: lane.run_with_deadline(hold, 600, ""))
            await anyio.to_thread.run_sync(running.wait, PATIENCE)
            running.clear()
            waited = await ask(0.01)
            assert not running.is_set()
            release.set()
        return waited, await ask(0.3)

    waited, computed = anyio.run(main)
    assert running.is_set()
    assert isinstance(waited, DeadlineExceeded)
    assert str(waited) == "this was given 0.01 s; less"
    assert str(computed) == "this was given 0.3 s; less"


def test_predictions_have_a_queue_of_their_own_that_is_bounded():
    fast, slow = BoundedQueue(1, 1, "predictions"), BoundedQueue(1, 0, "attacks")
    release, running = threading.Event(), [threading.Event(), threading.Event()]

    def hold(i: int) -> None:
        running[i].set()
        release.wait(PATIENCE)

    async def main() -> tuple[Any, Any, Any]:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: slow.run_with_deadline(lambda _: hold(0), 600, ""))
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
    assert str(full) == "as many predictions wait as may, 1, 1 of them yours; try again later"


def test_an_attack_whose_client_hangs_up_stops(server: Server):
    impatient = httpx.Timeout(PATIENCE, read=0.5)
    body, headers = {**SLOW, "images": arrays(1)}, {"X-Request-ID": "gone"}
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/attack", json=body, headers=headers, timeout=impatient)
    (entry,) = wait_for(lambda: server.entries('"gone"'))
    assert entry["status"] == 499
