"""A thread pool for work on all cores: at most as many parts run at once as there are cores, over all callers."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class ThreadPool:
    """At most ``size`` threads at work. They start with the first work, so the process may fork before that."""

    def __init__(self, size: int) -> None:
        self.resize(size)

    def resize(self, size: int) -> None:
        """Change the number of threads. Must be called before the first work."""
        self.size = size
        self._free = threading.Semaphore(size)
        self._pool = ThreadPoolExecutor(size)

    def parts(self, n: int, least: int, most: int) -> list[slice]:
        """Split n items over the threads, into parts of ``least`` (the last may have fewer) to ``most`` items."""
        size = min(most, max(least, -(-n // self.size)))
        return [slice(first, first + size) for first in range(0, max(1, n), size)]

    def map(self, work: Callable[[A], B], parts: Sequence[A]) -> list[B]:
        """Apply ``work`` to each part, and return the results in order. A single part runs at once, in the caller."""
        if len(parts) == 1:
            return [work(parts[0])]
        return list(self._pool.map(partial(self._in_turn, work), parts))

    def _in_turn(self, work: Callable[[A], B], part: A) -> B:
        with self._free:
            return work(part)
