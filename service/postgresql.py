"""Connections to PostgreSQL that end when it does not answer, for whoever has somebody waiting.

A server that is stopped, or hangs in its storage, keeps its connections: no time-out of TCP or of its own ends a
statement then. So each statement has a time on this side, and one connection that had no answer to the mere question
whether it is there spares all others of the process the wait.
"""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")


class NoAnswer(psycopg.OperationalError):
    """The server may be there, but does not answer."""


class Silence:
    """Whether the server has stopped answering: then one asks again every ``retry`` seconds, others fail at once."""

    def __init__(self, retry: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry, self._clock = retry, clock
        self._lock = threading.Lock()
        self._asked: float | None = None  # None: it answers

    def check(self) -> None:
        """Raises NoAnswer where it is silent and somebody has asked a moment ago."""
        with self._lock:
            if self._asked is None:
                return
            now = self._clock()
            if now - self._asked < self._retry:
                raise NoAnswer("the server has not answered for a while; it will be asked again soon")
            self._asked = now

    def begin(self) -> None:
        with self._lock:
            self._asked = self._clock()

    def end(self) -> None:
        with self._lock:
            self._asked = None


@cache
def silence_of(_database: str, retry: float) -> Silence:
    """What all connections of this process to one database know together."""
    return Silence(retry)


class TimedConnection(psycopg.Connection[Any]):
    """Every statement is to be answered within ``patience`` seconds; None: whenever."""

    patience: float | None = None

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Raises NoAnswer, and closes the connection, where there is none in time."""
        if timeout is not None:  # the caller's own
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.patience)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001  the only name that it has
            self.pgconn.finish()
            raise NoAnswer(f"no answer within {self.patience:g} s") from error


def connect(silence: Silence, patience: float, server_limit: float, *args: Any, **options: Any) -> TimedConnection:
    """A connection whose statements have ``patience`` seconds here, and ``server_limit`` on the server.

    Raises OperationalError, at once where the server is silent.
    """
    silence.check()
    try:
        made = TimedConnection.connect(*args, **options)
        made.patience = patience
        made.execute(f"SET statement_timeout = {server_limit * 1000:.0f}")
        made.commit()
    except (NoAnswer, psycopg.errors.ConnectionTimeout):
        silence.begin()
        raise
    silence.end()
    return made


def ping(silence: Silence, connection: TimedConnection) -> bool:
    """Whether a connection that was kept still answers. Raises NoAnswer, at once where the server is silent."""
    silence.check()
    try:
        connection.execute("")
        connection.rollback()
    except NoAnswer:
        silence.begin()
        raise
    except psycopg.OperationalError:
        return False
    silence.end()
    return True
