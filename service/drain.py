"""The end of the API process: nobody new gets in, who is in gets an answer, and after that it does end.

uvicorn lets running requests finish, but BentoML's parent holds the listening socket too: until both have ended, new
connections would hang in its queue instead of being refused, which a load balancer takes for a slow service.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Code, ServiceError

CLOSING = 0.02  # seconds between two looks whether uvicorn has stopped listening
SPARE = 1  # seconds between two ends: our answer to who is still there, uvicorn's cut, the end of the process

_present: set[asyncio.Task[Any]] = set()
_cut = threading.Event()


class Drain:
    """ASGI middleware that knows whose requests run, and answers them when the time is over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        _present.add(task)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not _cut.is_set():
                raise
            message = "the service is ending, and this took too long to be waited for; ask again"
            raise ServiceError(Code.NOT_READY, message) from None
        finally:
            _present.discard(task)


def on_sigterm(seconds: float) -> None:
    """From SIGTERM on refuse connections; after ``seconds`` answer what still runs, and end.

    To be called from the event loop, after uvicorn has set its own handler.
    """
    uvicorns = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    number = _listener(sys.argv)
    listener = None if number is None else socket.socket(fileno=os.dup(number))

    def handler(*received: Any) -> None:
        signal.signal(signal.SIGTERM, uvicorns)  # often there is a second one, to the group: the socket is shut once
        if callable(uvicorns):
            uvicorns(*received)
        loop.call_soon_threadsafe(loop.call_later, seconds, _answer)
        threading.Thread(target=_end, args=(seconds + 2 * SPARE,), daemon=True).start()
        if number is not None and listener is not None:
            threading.Thread(target=_refuse, args=(number, listener), daemon=True).start()

    signal.signal(signal.SIGTERM, handler)


def _listener(arguments: list[str]) -> int | None:
    """The file descriptor that BentoML gives to its API process."""
    return int(arguments[arguments.index("--fd") + 1]) if "--fd" in arguments else None


def _refuse(number: int, listener: socket.socket) -> None:
    """Shut the socket, for the parent too, once uvicorn no longer waits for connections on it."""
    while _same(number, listener):
        time.sleep(CLOSING)
    listener.shutdown(socket.SHUT_RDWR)


def _same(number: int, listener: socket.socket) -> bool:
    try:
        return os.path.sameopenfile(number, listener.fileno())
    except OSError:  # closed
        return False


def _answer() -> None:
    _cut.set()
    for task in _present:
        task.cancel()


def _end(seconds: float) -> None:
    """A thread that computes hears of none of this."""
    time.sleep(seconds)
    os._exit(0)
