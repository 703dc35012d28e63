"""Small requests for the same model, computed together: who comes while it computes is in its next batch, in turn.

Nobody waits for others to come, so a lone request is as fast as without. Together eight images take half the time of
eight alone. What is soon done is done in the event loop: the way into a thread and back takes as long.
"""

import asyncio
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from service.request_context import CALL
from service.scheduling.bounded_queue import BoundedQueue
from service.scheduling.fair_queue import FairQueue

A = TypeVar("A")
B = TypeVar("B")

SMALL = 8
"""Images of a request that shares its run of the model with others; more are a batch of their own, and so are images to
be resized, which may be large: decoding one keeps nobody else waiting."""
MOST = 32  # requests of a batch
SOON = 0.005  # seconds: as long as one thread waits for another to let go of the interpreter


class Batcher(Generic[A, B]):
    """``work`` gets a key and requests, and returns an answer or an exception for each, in their order.

    They compute in the ``queue``, where each key has its turn; as many wait for each key as may wait there. ``prompt``:
    they only compute, and may in the event loop if it is soon done.
    """

    def __init__(
        self,
        queue: BoundedQueue,
        work: Callable[[str, Sequence[A]], Sequence[B | Exception]],
        *,
        prompt: bool = False,
    ) -> None:
        self._queue, self._work, self._prompt = queue, work, prompt
        self._pace: dict[str, float] = {}  # seconds that a request takes
        self._waiting: dict[str, FairQueue[tuple[A, asyncio.Future[B]]]] = {}
        self._computing: dict[str, asyncio.Task[None]] = {}

    async def run(self, key: str, request: A) -> B:
        """The answer to this request. Raises what is its own fault, and ServiceError ``too_busy``."""
        answer: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        waiting, requester = self._waiting.setdefault(key, FairQueue()), CALL.get().requester
        waiting.add(requester, (request, answer))
        if len(waiting) > self._queue.waiting and key in self._computing:
            self._refuse_one(waiting, requester)
        if key not in self._computing:
            self._computing[key] = asyncio.create_task(self._compute(key))
        return await answer

    def _refuse_one(self, waiting: FairQueue[tuple[A, asyncio.Future[B]]], newcomer: str) -> None:
        """The newest of whoever has most waiting."""
        found = waiting.evict(newcomer)
        if found is not None and not found[1][1].done():
            found[1][1].set_exception(self._queue.too_busy(1 + waiting.waiting(found[0])))

    async def _compute(self, key: str) -> None:
        waiting = self._waiting[key]
        while len(waiting):
            await asyncio.sleep(0)  # who is about to ask is in the batch, and others have their turn between two
            taken = self._next(waiting)
            for (_, answer), result in zip(taken, await self._results(key, [one for one, _ in taken]), strict=True):
                if answer.done():
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
        del self._waiting[key], self._computing[key]

    @staticmethod
    def _next(waiting: FairQueue[tuple[A, asyncio.Future[B]]]) -> list[tuple[A, asyncio.Future[B]]]:
        """A batch: requesters in turn, none of those that nobody waits for any more."""
        taken: list[tuple[A, asyncio.Future[B]]] = []
        while len(taken) < MOST and (found := waiting.take()):
            requester, (request, answer) = found
            if not answer.done():
                taken.append((request, answer))
                waiting.charge(requester, 1)
            waiting.done(requester)
        return taken

    async def _results(self, key: str, requests: Sequence[A]) -> Sequence[B | Exception]:
        work, pace = functools.partial(self._work, key, requests), self._pace.get(key, math.inf)
        try:
            if not self._prompt:
                return await self._queue.run(work, f"model {key}")
            if len(requests) * pace <= SOON:
                return self._timed(key, work, len(requests))
            return await self._queue.run(lambda: self._timed(key, work, len(requests), pace), f"model {key}")
        except Exception as error:  # whatever it is, somebody waits for it
            return [error] * len(requests)

    def _timed(
        self, key: str, work: Callable[[], Sequence[B | Exception]], n: int, least: float = math.inf
    ) -> Sequence[B | Exception]:
        """A thread may have waited for the interpreter: it tells only that a request takes ``least`` or less."""
        start = time.perf_counter()
        try:
            return work()
        finally:
            self._pace[key] = min(least, (time.perf_counter() - start) / max(1, n))
