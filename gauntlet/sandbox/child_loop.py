"""The loop of a child process: receive a request, answer it, or say what is wrong."""

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
GRACE = 5  # seconds: the asker's own limit comes first, this one holds if the asker is gone
MAX_REASON = 1000  # characters
MAX_FRAMES = 4  # of a traceback


def serve(line: socket.socket, answers: dict[str, Callable[[Message, list[Array]], Answer]]) -> None:
    """Answer until the asker hangs up. Every exception is an answer: what it says, and ``where`` it came from."""
    while True:
        try:
            message, arrays = protocol.receive(line)
        except EOFError:
            return
        if message == protocol.CANCEL:  # of an answer that was given just before
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
        except Exception as error:  # whatever somebody's file leads a library to
            reply, made = {"failed": reason(error), "where": _where(error)}, ()
        protocol.send(line, reply, *made)


def _where(error: Exception) -> str:
    """The last frames, innermost last, in one line."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    return " > ".join(f"{frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in frames)


def _limit_cpu_time(seconds: float) -> None:
    """Processor time for the next answer, of all threads together."""
    spent = time.process_time()
    cores = len(os.sched_getaffinity(0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = int(spent + (seconds + GRACE) * cores) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (min(most, hard), hard))
