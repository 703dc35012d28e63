"""The load generator: on each connection, the next request follows the answer at once.

It does little work per request, because it shares the cores with the server.
"""

import asyncio
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, unparsed; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Ask:
    """A request, and the function that decides whether an answer is right."""

    raw: bytes
    right: Callable[[Answer], bool]
    images: int = 1


@dataclass
class Tally:
    """The counts and latencies (seconds) of a run's answers."""

    seconds: float = 0.0
    images: int = 0
    latencies: list[float] = dataclasses.field(default_factory=list)
    statuses: dict[int, int] = dataclasses.field(default_factory=dict)
    wrong: list[Answer] = dataclasses.field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def quantile(self, share: float) -> float:
        """Return the latency in seconds within which this share of the answers arrived."""
        return sorted(self.latencies)[max(0, math.ceil(share * self.requests) - 1)]


def http(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a request, on a connection that is kept alive."""
    all_headers = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
    return "\r\n".join(lines).encode() + HEAD_END + body


class _Connection(asyncio.Protocol):
    def __init__(self, asks: Iterator[Ask], tally: Tally, ended: asyncio.Future[None], check: int) -> None:
        self._asks, self._tally, self._ended, self._check = asks, tally, ended, check
        self._buffer = bytearray()
        self._whole = 0  # length of the answer in bytes, known once its head has arrived
        self._status, self._headers = 0, dict[str, str]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not inherit from it
        self._next()

    def _next(self) -> None:
        ask = next(self._asks, None)
        if ask is None:
            self._finish()
            return
        self._ask, self._whole = ask, 0
        self._started = time.perf_counter()
        self._transport.write(ask.raw)

    def _finish(self, error: Exception | None = None) -> None:
        if not self._ended.done():
            self._ended.set_result(None) if error is None else self._ended.set_exception(error)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionError("the server has hung up"))

    def data_received(self, data: bytes) -> None:
        try:
            self._take(data)
        except Exception as error:  # the answer is no valid HTTP, or the check failed on it: end the run
            self._finish(error)

    def _take(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole:
            end = self._buffer.find(HEAD_END)
            if end < 0:
                return
            self._read_head(bytes(self._buffer[:end]))
            self._whole = end + len(HEAD_END) + int(self._headers["content-length"])
        if len(self._buffer) >= self._whole:
            self._account()
            self._next()

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self._status = int(first.split(" ", 2)[1])
        pairs = (line.split(":", 1) for line in lines)
        self._headers = {name.lower(): value.strip() for name, value in pairs}

    def _account(self) -> None:
        tally = self._tally
        tally.latencies.append(time.perf_counter() - self._started)
        tally.images += self._ask.images
        tally.statuses[self._status] = tally.statuses.get(self._status, 0) + 1
        if tally.requests % self._check == 0:
            body = bytes(self._buffer[self._buffer.index(HEAD_END) + len(HEAD_END) : self._whole])
            answer = Answer(self._status, self._headers, body)
            if not self._ask.right(answer):
                tally.wrong.append(answer)
        del self._buffer[: self._whole]


def run(
    port: int,
    asks: Sequence[Ask],
    connections: int,
    *,
    seconds: float = math.inf,
    count: int | None = None,
    check: int = 1,
    over: Callable[[], bool] = lambda: False,
) -> Tally:
    """Send the requests in turn: ``count`` in all, or for ``seconds``, or until ``over()`` is true.

    One answer in ``check`` is checked. Raises ConnectionError.
    """

    async def main() -> Tally:
        tally, loop = Tally(), asyncio.get_running_loop()
        started = time.perf_counter()

        def source() -> Iterator[Ask]:
            done = 0
            while (count is None or done < count) and time.perf_counter() - started < seconds and not over():
                yield asks[done % len(asks)]
                done += 1

        shared = source()
        ends = [loop.create_future() for _ in range(connections)]
        for end in ends:
            await loop.create_connection(partial(_Connection, shared, tally, end, check), "127.0.0.1", port)
        await asyncio.gather(*ends)
        tally.seconds = time.perf_counter() - started
        return tally

    return uvloop.run(main())
