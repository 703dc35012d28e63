"""How many connections may be open, and how long a client may keep one busy without sending or reading.

A connection waits while its client owes it the headers of a request. Where there are too many, the one that has waited
longest is closed: half-sent requests cannot keep anybody else out. A client that stops reading its answer is
disconnected, since the answer is in memory until it has been read. uvicorn bounds none of these.
"""

import asyncio
import functools
import resource
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import Code, ServiceError
from service.responses import error_response
from service.settings import Settings

Networks = Sequence[IPv4Network | IPv6Network]

RESERVED = 128  # file descriptors of a process that are no client's


def use_limited_connections() -> None:
    """In a process that serves HTTP, before uvicorn is configured: it knows protocols by name."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{LimitedConnection.__name__}"


class OpenConnections:
    """Those of one process, by the address of the client. ``proxies`` speak for many and are not one client."""

    def __init__(self, most: int, most_of_one: int, most_unread: int, proxies: Networks = ()) -> None:
        self._most, self._most_of_one, self._most_unread = most, most_of_one, most_unread
        self._proxies = proxies
        self._unread: dict[LimitedConnection, None] = {}  # the longest first
        self._open: dict[str, set[LimitedConnection]] = {}
        self._waiting: dict[str, dict[LimitedConnection, None]] = {}  # the longest first
        self._count = 0

    def add(self, connection: "LimitedConnection", address: str) -> bool:
        """Whether there is room for it, once the longest waiting one has been closed where there was none."""
        full = len(self._open.get(address, ())) >= self._most_of_one and not self._is_proxy(address)
        if full and not self._close_longest_waiting(address):
            return False
        if self._count >= self._most and not self._close_longest_waiting(self._largest()):
            return False
        self._open.setdefault(address, set()).add(connection)
        self._count += 1
        return True

    def remove(self, connection: "LimitedConnection", address: str) -> None:
        """Once it is closed, or is about to be."""
        self.answering(connection, address)
        connections = self._open.get(address, set())
        if connection in connections:
            connections.remove(connection)
            self._count -= 1
            if not connections:
                del self._open[address]

    def waits(self, connection: "LimitedConnection", address: str) -> None:
        """From now on its client owes it the headers of a request."""
        self._waiting.setdefault(address, {})[connection] = None

    def answering(self, connection: "LimitedConnection", address: str) -> None:
        """Its client has sent them."""
        waiting = self._waiting.get(address, {})
        waiting.pop(connection, None)
        if not waiting:
            self._waiting.pop(address, None)

    def is_not_read(self, connection: "LimitedConnection") -> None:
        """Its client leaves more of an answer unread than the buffers hold. Where that is too much in all, those that
        have left an answer unread longest are closed.
        """
        self._unread[connection] = None
        bytes_left = {each: each.transport.get_write_buffer_size() for each in self._unread}
        total = sum(bytes_left.values())
        for longest, left in bytes_left.items():
            if total <= self._most_unread:
                break
            total -= left
            self.is_read(longest)
            longest.transport.abort()

    def is_read(self, connection: "LimitedConnection") -> None:
        """Its client goes on reading, or is gone."""
        self._unread.pop(connection, None)

    def _is_proxy(self, address: str) -> bool:
        return any(ip_address(address) in network for network in self._proxies)

    def _largest(self) -> str | None:
        """The address with the most waiting connections."""
        return max(self._waiting, key=lambda address: len(self._waiting[address]), default=None)

    def _close_longest_waiting(self, address: str | None) -> bool:
        longest = next(iter(self._waiting.get(address or "", ())), None)
        if longest is None or address is None:
            return False
        self.remove(longest, address)
        longest.transport.abort()
        return True


@functools.cache
def limits() -> Settings:
    """Of this process: its environment does not change."""
    return Settings.load()


@functools.cache
def open_connections() -> OpenConnections:
    """Of this process."""
    descriptors = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED)
    wanted = (limits().connections, limits().connections_of_one, limits().max_bodies)
    most, of_one, unread = map(limits().share, wanted)
    return OpenConnections(min(most, descriptors), of_one, unread, limits().trusted_proxies)


def refusal() -> bytes:
    """What a client reads for whom there is no room: the usual envelope, before any request was looked at."""
    error = ServiceError(Code.OVERLOADED, "too many connections are open; try again later")
    response = error_response(error)
    response.headers["connection"] = "close"
    lines = [
        b"HTTP/1.1 %d Service Unavailable" % response.status_code,
        *(b": ".join(pair) for pair in response.raw_headers),
    ]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's protocol with these limits. A Unix socket, whose clients are our own processes, has none."""

    transport: asyncio.Transport
    _headers_due: asyncio.TimerHandle | None = None
    _progress_due: asyncio.TimerHandle | None = None
    _address: str | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client is None:
            return
        if open_connections().add(self, self.client[0]):
            self._address = self.client[0]
            self._expect_headers()
        else:
            transport.write(refusal())
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._headers_due)
        _cancel(self._progress_due)
        if self._address is not None:
            open_connections().is_read(self)
            open_connections().remove(self, self._address)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        _cancel(self._headers_due)
        if self._address is not None:
            open_connections().answering(self, self._address)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._address is not None and not self._answering and not self.transport.is_closing():
            open_connections().waits(self, self._address)  # uvicorn closes it when it stays idle

    def pause_writing(self) -> None:
        """Called where more of an answer waits to be read than the buffers hold."""
        super().pause_writing()
        if self._address is not None:
            open_connections().is_not_read(self)
            self._expect_progress()

    def resume_writing(self) -> None:
        _cancel(self._progress_due)
        open_connections().is_read(self)
        super().resume_writing()

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _expect_headers(self) -> None:
        if self._address is None:
            return
        if not self._answering:  # of the request before, whose client has sent the next one already
            open_connections().waits(self, self._address)
        _cancel(self._headers_due)
        self._headers_due = self.loop.call_later(limits().header_seconds, self._headers_are_late)

    def _headers_are_late(self) -> None:
        if self._answering:
            self._expect_headers()
        else:
            self.transport.abort()

    def _expect_progress(self) -> None:
        _cancel(self._progress_due)
        left = self.transport.get_write_buffer_size()
        self._progress_due = self.loop.call_later(limits().read_seconds, self._look_for_progress, left)

    def _look_for_progress(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._expect_progress()
        else:
            self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
