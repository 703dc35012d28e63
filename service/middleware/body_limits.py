"""Request bodies on their way in: not too large, not too many at once, not for ever; expanded where compressed."""

import asyncio
import codecs
import contextlib
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from service.compression import Expander
from service.errors import Code, ServiceError
from service.schemas.json_limits import JsonLimits

DISCARDED = 2**28  # bytes of a body that nobody wants which are still read, so that its sender can read the answer
SLOWEST = 2**20  # bytes a second at which a file has to come, beyond the seconds that any body may take
QUIET = 5.0  # seconds without a byte after which no more is waited for
PLAIN = frozenset({"", "identity"})


class BodyLimits:
    """How many bytes of bodies this process holds, or has under way to another, and how many it may."""

    def __init__(self, each: int, all_of_them: int, seconds: float) -> None:
        self.each, self.all_of_them, self.seconds = each, all_of_them, seconds
        self.held = 0

    def check(self, size: int, coming: int) -> None:
        """A body of this size, of which so many bytes have not come yet. Raises ServiceError if it is too much."""
        if size > self.each:
            raise ServiceError(Code.TOO_LARGE, f"the body may have {self.each} bytes", limit=self.each)
        if self.held + coming > self.all_of_them:
            raise ServiceError(Code.OVERLOADED, "as many bodies as may be are being answered; try again later")


class RequestBody:
    """The body of one request; ``close`` when it is answered. ``refusal`` outlives what the framework makes of it."""

    def __init__(self, receive: Receive, bodies: BodyLimits, headers: Headers) -> None:
        self._receive, self._bodies = receive, bodies
        length = headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else 0  # as announced; 0 where it comes in chunks
        self._patient = "expect" in headers  # the client sends nothing before it is asked to
        self._whole = self.length == 0 and "transfer-encoding" not in headers
        self._came = self._size = 0  # bytes sent, and what they expand to
        self._parts: list[bytes] | None = []
        self._json: _Json | None = None
        self._expander: Expander | None = None
        self.due = asyncio.get_running_loop().time() + bodies.seconds
        self.refusal: ServiceError | None = None

    def expect(self, *, json: bool, encoding: str) -> None:
        """What it is. Raises ServiceError for an encoding that is not known."""
        self._json = _Json() if json else None
        self._expander = None if encoding.strip().lower() in PLAIN else Expander(encoding)

    async def __call__(self) -> Message:
        if self.refusal is not None:
            raise self.refusal
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self.due):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ServiceError(Code.CLIENT_GONE, "the client has hung up")
            self._whole = not message.get("more_body", False)
            return {**message, "body": await self._take(message.get("body", b""))}
        except TimeoutError:
            reason = f"the body did not arrive within {self._bodies.seconds:g} s"
            self.refusal = ServiceError(Code.BODY_TOO_SLOW, reason, headers={"Connection": "close"})
        except ServiceError as error:
            self.refusal = error
        raise self.refusal

    async def _take(self, chunk: bytes) -> bytes:
        self._came += len(chunk)
        if self._parts is None:  # a large file may take longer, not a slow sender
            self.due += len(chunk) / SLOWEST
        self._bodies.check(self._came, coming=0)
        taken = []
        for piece in self._expanded(chunk):
            self._bodies.held += len(piece)
            self._size += len(piece)
            self._bodies.check(self._size, coming=0)
            taken.append(piece if self._json is None else self._json.take(piece))
            if self._expander is not None:
                await asyncio.sleep(0)  # others are answered while a bomb is defused
        if self._json is not None and self._whole:
            taken.append(self._json.rest())
        part = b"".join(taken)
        if self._parts is not None:
            self._parts.append(part)
        return part

    def _expanded(self, chunk: bytes) -> Iterable[bytes]:
        return [chunk] if self._expander is None else self._expander.take(chunk, last=self._whole)

    @property
    def endless(self) -> bool:
        """Whether more of it may come than is read after the answer: the connection is of no use then."""
        return not self._whole and (self._patient or not 0 < self.length <= DISCARDED)

    async def discard(self) -> None:
        """Read on after the answer, within bounds: a connection that is closed while its client still sends is reset,
        and the client never reads why.
        """
        left = 0 if self._patient and not self._came else DISCARDED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.due):
                while left > 0 and not self._whole:
                    async with asyncio.timeout(QUIET):
                        message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._whole = not message.get("more_body", False)

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self._whole

    def received(self) -> bytes:
        """All of it, expanded."""
        return b"".join(self._parts or ())

    def pass_on(self, limits: BodyLimits) -> None:
        """It is a file, which is read as it comes and not needed again: other limits hold, and larger ones may."""
        self._parts, self._bodies = None, limits

    async def disconnected(self) -> None:
        """Returns once the client has hung up. To be asked when the whole body is there."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        self._bodies.held -= self._size


class _Json:
    """Counts what is to be parsed, and passes over a byte order mark (RFC 8259, 8.1: a parser may)."""

    def __init__(self) -> None:
        self._values = JsonLimits()
        self._start: bytes | None = b""  # None: it has been looked at

    def take(self, piece: bytes) -> bytes:
        self._values.take(piece)
        if self._start is None:
            return piece
        self._start += piece
        return self.rest() if len(self._start) >= len(codecs.BOM_UTF8) else b""

    def rest(self) -> bytes:
        start, self._start = self._start or b"", None
        return start.removeprefix(codecs.BOM_UTF8)
