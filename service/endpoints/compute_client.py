"""What the API processes do not compute is passed on to the compute process, and its answer back, byte for byte.

The way is HTTP over a Unix socket. When the client hangs up, the connection to the compute process closes too, which
cancels the work there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
from opentelemetry import propagate
from starlette.responses import Response

from service.errors import Code, ServiceError
from service.request_context import CALL, Call, internal_headers
from service.scheduling.disconnect import client_gone

SENT = (
    "accept",
    "accept-encoding",
    "content-type",
    "idempotency-key",
    "inference-header-content-length",
    "prefer",
)
"""Of a request's headers. Its body is expanded already."""

RETURNED = (
    "content-encoding",
    "content-type",
    "inference-header-content-length",
    "location",
    "retry-after",
)
"""Of an answer's."""

BASE = "http://compute"
LOOK = 0.25  # seconds between two looks whether the compute process lives
NO_LIMIT = httpx.Timeout(None)
"""The deadlines are the compute process's."""


class ComputeClient:
    """``transport`` leads to the compute process; ``alive`` says whether it answers at this moment."""

    def __init__(self, transport: httpx.AsyncBaseTransport, alive: Callable[[], bool]) -> None:
        self._client = httpx.AsyncClient(transport=transport, base_url=BASE, timeout=NO_LIMIT, trust_env=False)
        self.alive = alive

    async def forward(self, body: bytes | AsyncIterator[bytes] | None = None) -> Response:
        """The answer to the call under way. ``body`` None: the one that it came with.

        Raises ServiceError ``not_ready`` where the compute process is not there, or ends before it has answered.
        """
        if not self.alive():
            raise _unavailable("the process that computes this is starting; ask again")
        call, read = CALL.get(), asyncio.Event()
        content = call.body() if body is None else body
        if isinstance(content, bytes):
            read.set()
        else:
            content = _until_read(content, read)
        ask = asyncio.create_task(self._ask(call, content))
        left, died = asyncio.create_task(_disconnected(call, read)), asyncio.create_task(self._died())
        tasks = (ask, left, died)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)  # the connection is closed
        if ask in done:
            return ask.result()
        raise client_gone() if left in done else _ended()

    async def _died(self) -> None:
        """Returns once nobody answers there. A connection alone does not tell: the next process would take it."""
        while self.alive():
            await asyncio.sleep(LOOK)

    async def _ask(self, call: Call, content: bytes | AsyncIterator[bytes]) -> Response:
        request = self._client.build_request(call.method, call.target, headers=_headers(call), content=content)
        try:
            answer = await self._client.send(request, stream=True)
            try:
                raw = b"".join([part async for part in answer.aiter_raw()])
            finally:
                await answer.aclose()
        except httpx.TransportError as error:
            raise _ended() from error
        call.notes.error_is_ours = answer.status_code >= 400
        headers = {name: answer.headers[name] for name in RETURNED if name in answer.headers}
        return Response(raw, status_code=answer.status_code, headers=headers)

    async def close(self) -> None:
        await self._client.aclose()


async def _disconnected(call: Call, read: asyncio.Event) -> None:
    """Returns once the client has hung up. Before the whole body is read, whoever reads it hears of that."""
    await read.wait()
    await call.disconnected()


async def _until_read(body: AsyncIterator[bytes], read: asyncio.Event) -> AsyncIterator[bytes]:
    async for part in body:
        if part:
            yield part
    read.set()


def _headers(call: Call) -> Mapping[str, str]:
    headers = {name: call.headers[name] for name in SENT if name in call.headers}
    headers = {"accept-encoding": "identity", **headers, **internal_headers(call)}
    propagate.inject(headers)  # the trace goes on there
    return headers


def _ended() -> ServiceError:
    return _unavailable("the process that computes this has ended and is being restarted; ask again")


def _unavailable(message: str) -> ServiceError:
    return ServiceError(Code.NOT_READY, message, components={"compute": message})
