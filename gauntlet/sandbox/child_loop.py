"""The main loop of a child process: receive a request, answer it with a result or an error."""

import os
import resource
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from gauntlet.errors import GauntletError, InvalidInput, reason
from gauntlet.sandbox import protocol
from gauntlet.sandbox.protocol import Array, Message

Answer = tuple[Message, Sequence[Array]]
GRACE = 5  # seconds beyond the parent's own timeout: this limit only matters if the parent is gone
MAX_REASON = 1000  # characters of an error message
MAX_FRAMES = 4  # of a traceback


def serve(line: socket.socket, answers: dict[str, Callable[[Message, list[Array]], Answer]]) -> None:
    """Answer requests until the parent closes the socket.

    ``answers`` maps the name of a request to its handler. An exception is answered with its message; an unforeseen one
    also with the last frames of its traceback, as ``where``.
    """
    while True:
        try:
            message, arrays = protocol.receive(line)
        except EOFError:
            return
        if message == protocol.CANCEL:  # it arrived after the answer that it should cancel
            continue
        _limit_cpu_time(float(message["seconds"]))
        try:
            reply, made = answers[message["ask"]](message, arrays)
        except InvalidInput as error:
            reply, made = {"refused": str(error)[:MAX_REASON], "field": error.field}, ()
        except GauntletError as error:
            reply, made = {"failed": str(error)[:MAX_REASON]}, ()
        except MemoryError:
            reply, made = {"failed": "it needs more memory than it may have"}, ()
        except Exception as error:  # the libraries raise errors of any type for hostile files
            reply, made = {"failed": reason(error), "where": _where(error)}, ()
        protocol.send(line, reply, *made)


def _where(error: Exception) -> str:
    """Return the last frames of the traceback, innermost last, on one line."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return " > ".join(f"{frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in frames)


def _limit_cpu_time(seconds: float) -> None:
    """Limit the processor time, of all threads together, for the next answer; ``seconds`` are of wall-clock time."""
    spent = time.process_time()
    cores = len(os.sched_getaffinity(0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(spent + (seconds + GRACE) * cores) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))
