"""An answer 429 is held for a moment. Who asks again at once, whatever the answer, would keep the cores busy with it.

Everybody who obeys Retry-After, which is a second or more, loses nothing. Only so many are held at a time; metrics and
the log do not count the moment as time that the request took.
"""

import asyncio
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = 0.5
MOST = 1024  # held at once in one process; a refusal beyond them is sent at once


class SlowRefusals:
    """ASGI middleware, outside of what counts requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; the head of a 429 only with its body, later."""
        head: Message | None = None

        async def slowly(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.TOO_MANY_REQUESTS:
                head = message
                return
            if head is not None:
                await self._hold()
                await send(head)
                head = None
            await send(message)

        await self._app(scope, receive, slowly)

    async def _hold(self) -> None:
        if self._held >= MOST:
            return
        self._held += 1
        try:
            await asyncio.sleep(SECONDS)
        finally:
            self._held -= 1
