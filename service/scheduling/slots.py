"""So many compute at the same time. Who waits is served in turn; what takes long gives way to whoever is owed more."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from service.scheduling.fair_queue import FairQueue

QUANTUM = 0.1  # seconds that one requester may be ahead of another that waits
LOOK = 0.25  # seconds between two looks of what is paused: is it still wanted?


class Full(Exception):
    """No place to wait is left. ``own``: how many waiting requests are of the one that is refused, itself included."""

    def __init__(self, own: int) -> None:
        super().__init__(own)
        self.own = own


@dataclass(eq=False)
class Turn:
    """One request. ``granted`` is done while it may compute; its exception is Full where it has lost its place."""

    requester: str
    granted: Future[None] = field(default_factory=Future)
    since: float | None = None  # it has computed without being charged; None: it does not compute


class Slots:
    """Safe to use from several threads. ``places``: how many may wait; None: any number. Turns go by seconds."""

    def __init__(self, slots: int, places: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._free, self._places, self._clock = slots, places, clock
        self._lock = threading.Lock()
        self._queue: FairQueue[Turn] = FairQueue()
        self._computing: set[Turn] = set()

    def enter(self, requester: str) -> Turn:
        """Ask for a turn. Where too many wait, the newest of the requester that has most waiting loses its place."""
        turn = Turn(requester)
        with self._lock:
            self._settle()
            self._queue.add(requester, turn)
            self._grant()
            if self._places is not None and len(self._queue) > self._places:
                self._refuse_one(requester)
        return turn

    def leave(self, turn: Turn) -> None:
        """It computes no longer, or waits no longer."""
        with self._lock:
            self._settle()
            if turn.since is None:
                self._queue.remove(turn.requester, turn)
            else:
                self._stop(turn)
                self._queue.done(turn.requester)
            self._grant()

    def give_way(self, turn: Turn, check_cancelled: Callable[[], None]) -> None:
        """For what computes, in its thread and often: wait while somebody else is owed more. ``check_cancelled`` raises
        where that is too long.
        """
        if not len(self._queue):
            return
        with self._lock:
            self._settle()
            if not self._queue.owed(turn.requester, QUANTUM):
                return
            self._stop(turn)
            turn.granted = Future()
            self._queue.pause(turn.requester, turn)
            self._grant()
        while True:
            try:
                turn.granted.result(LOOK)
            except TimeoutError:
                check_cancelled()
            else:
                return

    def _settle(self) -> None:
        """Charge what has been computed so far."""
        now = self._clock()
        for turn in self._computing:
            assert turn.since is not None
            self._queue.charge(turn.requester, now - turn.since)
            turn.since = now

    def _stop(self, turn: Turn) -> None:
        turn.since = None
        self._computing.remove(turn)
        self._free += 1

    def _grant(self) -> None:
        while self._free and (found := self._queue.take()):
            requester, turn = found
            if turn.granted.set_running_or_notify_cancel():
                self._free -= 1
                turn.since = self._clock()
                self._computing.add(turn)
                turn.granted.set_result(None)
            else:
                self._queue.done(requester)

    def _refuse_one(self, newcomer: str) -> None:
        found = self._queue.evict(newcomer)
        if found is not None and found[1].granted.set_running_or_notify_cancel():
            found[1].granted.set_exception(Full(1 + self._queue.waiting(found[0])))
