"""What the API processes pass on to the compute process, and what becomes of it: with an application in its place."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from service.endpoints.compute_client import ComputeClient
from service.errors import Code, ServiceError
from service.request_context import CALL, Call, Caller, identity
from service.request_context import Scope as KeyScope

CALLER = Caller("ann", KeyScope.ATTACK, reports_per_day=3)
SENT = {
    "content-type": "application/json",
    "idempotency-key": "mine",
    "authorization": "Bearer gauntlet_secret",
    "x-gauntlet-caller": json.dumps({"name": "root", "scope": "admin"}),
    "host": "somewhere.example",
}


class Compute:
    """Answers with what it was sent, once it may."""

    def __init__(self) -> None:
        self.seen: list[tuple[Scope, bytes]] = []
        self.begun, self.release, self.cancelled = anyio.Event(), anyio.Event(), anyio.Event()
        self.release.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.seen.append((scope, body))
        self.begun.set()
        try:
            await self.release.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise
        headers = [(b"content-type", b"x/y"), (b"retry-after", b"7"), (b"server", b"inside")]
        await send({"type": "http.response.start", "status": 422, "headers": headers})
        await send({"type": "http.response.body", "body": b"\x00\xff" + body})


async def forwarded(
    compute: Compute,
    body: bytes | AsyncIterator[bytes] | None = None,
    alive: Callable[[], bool] = lambda: True,
    disconnected: Callable[[], Awaitable[None]] = anyio.sleep_forever,
) -> Any:
    """The answer, or the error."""
    client = ComputeClient(httpx.ASGITransport(compute), alive)
    call = Call("id-1", "POST", target="/attack?a=%2F", headers=Headers(SENT), caller=CALLER, body=lambda: b'{"x": 1}')
    token = CALL.set(Call(**{**vars(call), "disconnected": disconnected}))
    try:
        return await client.forward(body), CALL.get()
    except ServiceError as error:
        return error
    finally:
        CALL.reset(token)
        await client.close()


def test_bytes_status_and_our_headers_go_through_untouched_and_nothing_else():
    async def main() -> Any:
        compute = Compute()
        return await forwarded(compute), compute.seen

    (answer, call), ((scope, body),) = anyio.run(main)
    assert (answer.status_code, answer.body) == (422, b'\x00\xff{"x": 1}')
    assert {name: answer.headers.get(name) for name in ("content-type", "retry-after", "server")} == {
        "content-type": "x/y",
        "retry-after": "7",
        "server": None,
    }
    assert call.notes.error_is_ours
    assert (scope["method"], scope["raw_path"], scope["query_string"], body) == (
        "POST",
        b"/attack",
        b"a=%2F",
        b'{"x": 1}',
    )
    headers = Headers(scope=scope)
    assert headers["idempotency-key"] == "mine"
    assert "authorization" not in headers
    assert identity(headers) == ("id-1", "", CALLER)  # who the request gate found, not who the client says


def test_a_file_is_passed_on_as_it_comes():
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one ", b"", b"two"):
            yield part

    async def main() -> bytes:
        compute = Compute()
        await forwarded(compute, parts())
        return compute.seen[0][1]

    assert anyio.run(main) == b"one two"


def test_without_a_compute_process_it_is_to_be_asked_again():
    async def main() -> Any:
        compute = Compute()
        return await forwarded(compute, alive=lambda: False), compute.seen

    error, seen = anyio.run(main)
    assert error.code is Code.NOT_READY
    assert set(error.details["components"]) == {"compute"}
    assert seen == []


@pytest.mark.parametrize(("how", "code"), [("died", Code.NOT_READY), ("left", Code.CLIENT_GONE)])
def test_nobody_waits_for_a_process_that_died_and_nothing_is_computed_for_a_client_that_left(how: str, code: Code):
    async def main() -> Any:
        compute, left, alive = Compute(), anyio.Event(), [True]
        compute.release = anyio.Event()
        found: list[Any] = []

        async def ask() -> None:
            found.append(await forwarded(compute, alive=lambda: alive[0], disconnected=left.wait))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await compute.begun.wait()
            alive[0] = how != "died"
            if how == "left":
                left.set()
        return found[0], compute.cancelled.is_set()

    error, cancelled = anyio.run(main)
    assert error.code is code
    assert cancelled


def test_while_a_file_comes_only_its_reader_hears_that_the_client_left():
    async def endless() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ServiceError(Code.CLIENT_GONE, "the client has hung up")

    async def main() -> Any:
        async def disconnected() -> None:
            pytest.fail("asked before the whole body was read")

        return await forwarded(Compute(), endless(), disconnected=disconnected)

    assert anyio.run(main).code is Code.CLIENT_GONE
