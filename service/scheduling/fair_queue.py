"""Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) among requesters.

Next is the requester that has received least service. One that comes or returns is counted as having received what the
least served of those present has: nobody saves up by staying away. Requests of one requester keep their order.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Line(Generic[T]):
    """What is known of one requester."""

    received: float
    paused: deque[T] = field(default_factory=deque)  # begun, and interrupted for others
    waiting: deque[T] = field(default_factory=deque)
    running: int = 0

    def __len__(self) -> int:
        return len(self.paused) + len(self.waiting)

    @property
    def present(self) -> bool:
        return self.running > 0 or len(self) > 0


class FairQueue(Generic[T]):
    """Items that wait. Not safe to use from several threads. Service is in whatever unit the user charges."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[T]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def waiting(self, requester: str) -> int:
        """How many of one requester wait."""
        return len(self._lines[requester]) if requester in self._lines else 0

    def add(self, requester: str, item: T) -> None:
        self._present(requester).waiting.append(item)

    def evict(self, newcomer: str) -> tuple[str, T] | None:
        """Take out the newest item of whoever has most waiting; of equals, the newcomer's. What has begun stays."""
        lines = [(len(line), name == newcomer, name) for name, line in self._lines.items() if line.waiting]
        if not lines:
            return None
        *_, largest = max(lines)
        return largest, self._lines[largest].waiting.pop()

    def take(self) -> tuple[str, T] | None:
        """The next requester and its item, which counts as running until ``done`` or ``pause``."""
        least = min(
            (line for line in self._lines.items() if len(line[1])), key=lambda line: line[1].received, default=None
        )
        if least is None:
            return None
        requester, line = least
        line.running += 1
        return requester, (line.paused or line.waiting).popleft()

    def charge(self, requester: str, service: float) -> None:
        """A requester with something running has received so much more."""
        self._lines[requester].received += service

    def done(self, requester: str) -> None:
        """One of its items no longer runs."""
        self._lines[requester].running -= 1
        self._forget()

    def pause(self, requester: str, item: T) -> None:
        """An item that runs waits again, before the others of its requester."""
        line = self._lines[requester]
        line.running -= 1
        line.paused.append(item)

    def remove(self, requester: str, item: T) -> None:
        """It waits no longer, if it did."""
        line = self._lines.get(requester)
        for items in () if line is None else (line.paused, line.waiting):
            if item in items:
                items.remove(item)
        self._forget()

    def owed(self, requester: str, quantum: float) -> bool:
        """Whether somebody waits who has received so much less."""
        limit = self._lines[requester].received - quantum
        return any(len(line) and line.received <= limit for line in self._lines.values())

    def _present(self, requester: str) -> _Line[T]:
        line = self._lines.get(requester)
        if line is None or not line.present:
            least = self._least()
            received = least if line is None else max(line.received, least)
            self._lines.pop(requester, None)
            line = self._lines[requester] = _Line(received)  # last among those who have received as much
        return line

    def _least(self) -> float:
        """Of the service that those present have received."""
        return min((line.received for line in self._lines.values() if line.present), default=0.0)

    def _forget(self) -> None:
        """Those who are away and would return as if they had never been here."""
        if not any(line.present for line in self._lines.values()):
            self._lines.clear()
            return
        least = self._least()
        gone = [name for name, line in self._lines.items() if not line.present and line.received <= least]
        for name in gone:
            del self._lines[name]
