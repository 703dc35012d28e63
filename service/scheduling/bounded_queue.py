"""Where requests wait and compute: few at a time, few behind them, none for a client that has hung up."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import anyio
import anyio.to_thread

from gauntlet.errors import DeadlineExceeded
from service.errors import Code, ServiceError
from service.request_context import CALL
from service.scheduling.disconnect import client_gone, while_connected

T = TypeVar("T")

PREDICTION_SLOTS = 4  # predictions that compute at the same time in a process; each uses all cores


class BoundedQueue:
    """So many threads compute, so many requests may wait for one. More get ``too_busy``."""

    def __init__(self, slots: int, waiting: int, what: str) -> None:
        self._limiter, self._waiting, self._what = anyio.CapacityLimiter(slots), waiting, what

    async def run(self, work: Callable[[], T]) -> T:
        """For work that is soon done."""
        self.check()
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    async def run_with_deadline(self, work: Callable[[Callable[[], None]], T], seconds: float, advice: str) -> T:
        """For work that takes long. It is given what it is to call often: that raises once the time, waiting included,
        is over, or the client gone.
        """
        self.check()
        deadline, gone = time.monotonic() + seconds, Event()
        message = f"this was given {seconds:g} s; {advice}"

        def check_cancelled() -> None:
            if gone.is_set():
                raise client_gone()
            if time.monotonic() > deadline:
                raise DeadlineExceeded(message)

        slot = object()
        async with while_connected(CALL.get().disconnected, gone):
            try:
                with anyio.fail_after(seconds):
                    await self._limiter.acquire_on_behalf_of(slot)
            except TimeoutError as error:
                raise DeadlineExceeded(message) from error
            try:
                return await anyio.to_thread.run_sync(lambda: work(check_cancelled))
            finally:
                self._limiter.release_on_behalf_of(slot)
        raise client_gone()

    def check(self, elsewhere: int = 0) -> None:
        """Raises ServiceError ``too_busy`` where as many wait as may, ``elsewhere`` for what computes here included."""
        waiting = elsewhere + self._limiter.statistics().tasks_waiting
        if waiting >= self._waiting and (elsewhere or not self._limiter.available_tokens):
            raise ServiceError(Code.TOO_BUSY, f"too many {self._what} wait already; try again later")
