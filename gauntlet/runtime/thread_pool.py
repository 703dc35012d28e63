"""Work on all cores: each part takes one, and as many are under way as there are cores, whoever asked for them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


class ThreadPool:
    """So many at work. Threads start with the first work: a process may be forked before."""

    def __init__(self, size: int) -> None:
        self.resize(size)

    def resize(self, size: int) -> None:
        """Before there is work."""
        self.size = size
        self._free = threading.Semaphore(size)
        self._pool = ThreadPoolExecutor(size)

    def parts(self, n: int, least: int, most: int) -> list[slice]:
        """Of n things: one part for each of the crew, of ``least`` things or more, of ``most`` at the most."""
        size = min(most, max(least, -(-n // self.size)))
        return [slice(first, first + size) for first in range(0, max(1, n), size)]

    def map(self, work: Callable[[A], B], parts: Sequence[A]) -> list[B]:
        """The work on each part, in their order. One alone is done where it is asked for, and waits for nobody."""
        if len(parts) == 1:
            return [work(parts[0])]
        return list(self._pool.map(partial(self._in_turn, work), parts))

    def _in_turn(self, work: Callable[[A], B], part: A) -> B:
        with self._free:
            return work(part)
