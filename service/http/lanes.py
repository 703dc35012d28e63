"""Where requests wait and compute: few at a time, few behind them, none for a client that has hung up."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from threading import Event
from typing import TypeVar

import anyio
import anyio.to_thread

from gauntlet.errors import DeadlineExceeded
from service.errors import CALL, Code, ServiceError

T = TypeVar("T")


class Lane:
    """So many threads compute, so many requests may wait for one. More get ``too_busy``."""

    def __init__(self, slots: int, queue: int, what: str) -> None:
        self._limiter, self._queue, self._what = anyio.CapacityLimiter(slots), queue, what

    async def run(self, work: Callable[[], T]) -> T:
        """For work that is soon done."""
        self.check()
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    async def run_at_length(self, work: Callable[[Callable[[], None]], T], seconds: float, advice: str) -> T:
        """For work that takes long. It is given what it is to call often: that raises once the time, waiting included,
        is over, or the client gone.
        """
        self.check()
        deadline, gone = time.monotonic() + seconds, Event()
        message = f"this was given {seconds:g} s; {advice}"

        def stop() -> None:
            if gone.is_set():
                raise _left()
            if time.monotonic() > deadline:
                raise DeadlineExceeded(message)

        slot = object()
        async with _while_connected(gone):
            try:
                with anyio.fail_after(seconds):
                    await self._limiter.acquire_on_behalf_of(slot)
            except TimeoutError as error:
                raise DeadlineExceeded(message) from error
            try:
                return await anyio.to_thread.run_sync(lambda: work(stop))
            finally:
                self._limiter.release_on_behalf_of(slot)
        raise _left()

    def check(self, elsewhere: int = 0) -> None:
        """Raises ServiceError ``too_busy`` where as many wait as may, ``elsewhere`` for what computes here included."""
        waiting = elsewhere + self._limiter.statistics().tasks_waiting
        if waiting >= self._queue and (elsewhere or not self._limiter.available_tokens):
            raise ServiceError(Code.TOO_BUSY, f"too many {self._what} wait already; try again later")


@contextlib.asynccontextmanager
async def _while_connected(gone: Event) -> AsyncIterator[None]:
    """Once the client has hung up, ``gone`` is set and what waits in here is cancelled."""
    call = CALL.get()
    with anyio.CancelScope() as scope:

        async def watch() -> None:
            await call.gone()
            gone.set()
            scope.cancel()

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()


def _left() -> ServiceError:
    return ServiceError(Code.CLIENT_GONE, "the client has hung up")
