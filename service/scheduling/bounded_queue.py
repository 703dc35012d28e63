"""Where requests wait and compute: few at a time, few behind them, in turn, none for a client that has hung up."""

import asyncio
import math
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
from service.scheduling.slots import Full, Slots, Turn

T = TypeVar("T")

PREDICTION_SLOTS = 4  # predictions that compute at the same time in a process; each uses all cores


class BoundedQueue:
    """So many threads compute, so many requests may wait for one. Where more come, the requester that has most waiting
    loses its newest: ``too_busy``. Requesters are served in turn, by the seconds that they have computed.
    """

    def __init__(self, slots: int, waiting: int, what: str) -> None:
        self.waiting, self._what = waiting, what
        self._slots = Slots(slots, waiting)
        self._threads = anyio.CapacityLimiter(math.inf)  # bounded by the slots

    async def run(self, work: Callable[[], T], requester: str | None = None) -> T:
        """For work that is soon done. ``requester`` None: the one of the call under way."""
        turn = self._slots.enter(CALL.get().requester if requester is None else requester)
        try:
            await self._granted(turn)
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._slots.leave(turn)

    async def run_with_deadline(self, work: Callable[[Callable[[], None]], T], seconds: float, advice: str) -> T:
        """For work that takes long. It is given what it is to call often: that raises once the time, waiting included,
        is over, or the client gone, and it waits while others are owed more.
        """
        deadline, gone = time.monotonic() + seconds, Event()
        message = f"this was given {seconds:g} s; {advice}"
        turn = self._slots.enter(CALL.get().requester)

        def check_cancelled() -> None:
            if gone.is_set():
                raise client_gone()
            if time.monotonic() > deadline:
                raise DeadlineExceeded(message)

        def check_turn() -> None:
            check_cancelled()
            self._slots.give_way(turn, check_cancelled)

        try:
            async with while_connected(CALL.get().disconnected, gone):
                try:
                    with anyio.fail_after(seconds):
                        await self._granted(turn)
                except TimeoutError as error:
                    raise DeadlineExceeded(message) from error
                return await anyio.to_thread.run_sync(lambda: work(check_turn), limiter=self._threads)
            raise client_gone()
        finally:
            self._slots.leave(turn)

    async def _granted(self, turn: Turn) -> None:
        """Raises ServiceError ``too_busy`` where the place is lost."""
        try:
            if turn.granted.done():
                turn.granted.result()
            else:
                await asyncio.wrap_future(turn.granted)
        except Full as full:
            raise self.too_busy(full.own) from None

    def too_busy(self, own: int) -> ServiceError:
        """For a request that loses its place. ``own``: how many of its requester waited, itself included."""
        others = "" if own < 2 else f", {own - 1} of them yours"
        message = f"as many {self._what} wait as may, {self.waiting}{others}; try again later"
        return ServiceError(Code.TOO_BUSY, message, limit=self.waiting)
