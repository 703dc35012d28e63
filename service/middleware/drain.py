"""The end of an API process: nobody new gets in, who is in gets an answer, and after that it does end.

uvicorn lets running requests finish, but BentoML's parent holds the listening socket too: until both have ended, new
connections would hang in its queue instead of being refused, which a load balancer takes for a slow service. The last
API process that stops listening shuts the socket for all.
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
from service.process_lock import ProcessLock

CLOSING = 0.02  # seconds between two looks whether uvicorn has stopped listening
SPARE = 1  # seconds between two ends: our answer to who is still there, uvicorn's cut, the end of the process

_running: set[asyncio.Task[Any]] = set()
_time_is_over = threading.Event()


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
        _running.add(task)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not _time_is_over.is_set():
                raise
            message = "the service is ending, and this took too long to be waited for; ask again"
            raise ServiceError(Code.NOT_READY, message) from None
        finally:
            _running.discard(task)


def drain_on_sigterm(seconds: float, listening: ProcessLock) -> None:
    """From SIGTERM on refuse connections; after ``seconds`` answer what still runs, and end.

    To be called from the event loop, after uvicorn has set its own handler. ``listening`` is shared by the processes
    that listen on the same socket.
    """
    uvicorns = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    number = _listener(sys.argv)
    listener = None if number is None else socket.socket(fileno=os.dup(number))
    listening.share()

    def handler(*received: Any) -> None:
        signal.signal(signal.SIGTERM, uvicorns)  # often there is a second one, to the group: the socket is shut once
        if callable(uvicorns):
            uvicorns(*received)
        loop.call_soon_threadsafe(loop.call_later, seconds, _answer_all)
        end_after(seconds + 2 * SPARE)
        if number is not None and listener is not None:
            threading.Thread(target=_refuse, args=(number, listener, listening), daemon=True).start()

    signal.signal(signal.SIGTERM, handler)


def end_after(seconds: float) -> None:
    """End this process then, whatever its threads compute."""

    def end() -> None:
        time.sleep(seconds)
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()


def _listener(arguments: list[str]) -> int | None:
    """The file descriptor that BentoML gives to its API process."""
    return int(arguments[arguments.index("--fd") + 1]) if "--fd" in arguments else None


def _refuse(number: int, listener: socket.socket, listening: ProcessLock) -> None:
    """Shut the socket, for the parent too, once no process waits for connections on it any more."""
    while _same(number, listener):
        time.sleep(CLOSING)
    listening.release()
    if listening.take_if_free():
        listener.shutdown(socket.SHUT_RDWR)


def _same(number: int, listener: socket.socket) -> bool:
    try:
        return os.path.sameopenfile(number, listener.fileno())
    except OSError:  # closed
        return False


def _answer_all() -> None:
    _time_is_over.set()
    for task in _running:
        task.cancel()
