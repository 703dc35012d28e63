"""Request bodies on their way in: not too large, not too many at once, not for ever."""

import asyncio

from starlette.types import Message, Receive

from service.errors import Code, ServiceError
from service.http.values import Values


class Bodies:
    """How many bytes of bodies this process holds, and how many it may."""

    def __init__(self, each: int, all_of_them: int, seconds: float) -> None:
        self.each, self.all_of_them, self.seconds = each, all_of_them, seconds
        self.held = 0

    def check(self, size: int, coming: int) -> None:
        """A body of this size, of which so many bytes are not held yet. Raises ServiceError if it is too much."""
        if size > self.each:
            raise ServiceError(Code.TOO_LARGE, f"the body may have {self.each} bytes", limit=self.each)
        if self.held + coming > self.all_of_them:
            raise ServiceError(Code.OVERLOADED, "as many bodies as may be are being answered; try again later")


class Body:
    """The body of one request; ``close`` when it is answered. ``refusal`` outlives what the framework makes of it."""

    def __init__(self, receive: Receive, bodies: Bodies) -> None:
        self._receive, self._bodies = receive, bodies
        self._size, self._whole = 0, False
        self.values: Values | None = None  # where it is JSON
        self._due = asyncio.get_running_loop().time() + bodies.seconds
        self.refusal: ServiceError | None = None

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._due):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ServiceError(Code.CLIENT_GONE, "the client has hung up")
            self._take(message.get("body", b""))
        except TimeoutError:
            said = f"the body did not arrive within {self._bodies.seconds:g} s"
            self.refusal = ServiceError(Code.BODY_TOO_SLOW, said, headers={"Connection": "close"})
        except ServiceError as error:
            self.refusal = error
        if self.refusal is not None:
            raise self.refusal
        self._whole = not message.get("more_body", False)
        return message

    def _take(self, chunk: bytes) -> None:
        self._bodies.held += len(chunk)
        self._size += len(chunk)
        self._bodies.check(self._size, coming=0)
        if self.values is not None:
            self.values.take(chunk)

    async def gone(self) -> None:
        """Returns once the client has hung up. To be asked when the whole body is there."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        self._bodies.held -= self._size
