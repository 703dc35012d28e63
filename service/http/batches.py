"""Small requests for the same model, computed together: who comes while it computes is in its next batch.

Nobody waits for others to come, so a lone request is as fast as without. Together eight images take half the time of
eight alone, and the way into a thread and back is gone once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from service.http.lanes import Lane

A = TypeVar("A")
B = TypeVar("B")

MOST = 32  # requests of a batch


class Batches(Generic[A, B]):
    """``work`` gets a key and requests, and returns an answer or an exception for each, in their order.

    ``lane`` says where those of a key compute.
    """

    def __init__(
        self, lane: Callable[[str], Lane], work: Callable[[str, Sequence[A]], Sequence[B | Exception]]
    ) -> None:
        self._lane, self._work = lane, work
        self._waiting: dict[str, deque[tuple[A, asyncio.Future[B]]]] = {}
        self._computing: dict[str, asyncio.Task[None]] = {}

    async def run(self, key: str, request: A) -> B:
        """The answer to this request. Raises what is its own fault, and ServiceError ``too_busy``."""
        lane = self._lane(key)
        lane.check(sum(len(waiting) for other, waiting in self._waiting.items() if self._lane(other) is lane))
        answer: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append((request, answer))
        if key not in self._computing:
            self._computing[key] = asyncio.create_task(self._compute(key))
        return await answer

    async def _compute(self, key: str) -> None:
        waiting = self._waiting[key]
        while waiting:
            taken = [waiting.popleft() for _ in range(min(MOST, len(waiting)))]
            taken = [(request, answer) for request, answer in taken if not answer.done()]  # it is once nobody waits
            for (_, answer), result in zip(taken, await self._results(key, [one for one, _ in taken]), strict=True):
                if answer.done():
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
        del self._waiting[key], self._computing[key]

    async def _results(self, key: str, requests: Sequence[A]) -> Sequence[B | Exception]:
        try:
            return await self._lane(key).run(lambda: self._work(key, requests))
        except Exception as error:  # whatever it is, somebody waits for it
            return [error] * len(requests)
