"""What a child does all its life: hear a question, answer it, or say what is wrong."""

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
SPARE = 5  # seconds: the asker's own limit comes first, this one holds if the asker is gone
LONGEST = 1000  # characters of a reason
FRAMES = 4  # of a traceback


def serve(line: socket.socket, answers: dict[str, Callable[[Message, list[Array]], Answer]]) -> None:
    """Answer until the asker hangs up. Every exception is an answer: what it says, and ``where`` it came from."""
    while True:
        try:
            message, arrays = protocol.receive(line)
        except EOFError:
            return
        if message == protocol.CANCEL:  # of an answer that was given just before
            continue
        _allow(float(message["seconds"]))
        try:
            reply, made = answers[message["ask"]](message, arrays)
        except InvalidInput as error:
            reply, made = {"refused": str(error)[:LONGEST], "field": error.field}, ()
        except GauntletError as error:
            reply, made = {"failed": str(error)[:LONGEST]}, ()
        except MemoryError:
            reply, made = {"failed": "it needs more memory than it may have"}, ()
        except Exception as error:  # whatever somebody's file leads a library to
            reply, made = {"failed": reason(error), "where": _where(error)}, ()
        protocol.send(line, reply, *made)


def _where(error: Exception) -> str:
    """The last frames, innermost last, in one line."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return " > ".join(f"{frame.name} ({Path(frame.filename).name}:{frame.lineno})" for frame in frames)


def _allow(seconds: float) -> None:
    """Processor time for the next answer, of all threads together."""
    spent = time.process_time()
    cores = len(os.sched_getaffinity(0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent + (seconds + SPARE) * cores) + 1, hard))
