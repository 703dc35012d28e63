"""What a child does all its life: hear a question, answer it, or say what is wrong."""

import os
import resource
import socket
import time
from collections.abc import Callable, Sequence

from gauntlet.errors import GauntletError, InvalidInput
from gauntlet.sandbox import wire
from gauntlet.sandbox.wire import Array, Message

Answer = tuple[Message, Sequence[Array]]
SPARE = 5  # seconds: the asker's own limit comes first, this one holds if the asker is gone
LONGEST = 1000  # characters of a reason


def serve(line: socket.socket, answers: dict[str, Callable[[Message, list[Array]], Answer]]) -> None:
    """Answer until the asker hangs up. GauntletError and MemoryError are told; anything else ends this process."""
    while True:
        try:
            message, arrays = wire.receive(line)
        except EOFError:
            return
        _allow(float(message["seconds"]))
        try:
            reply, made = answers[message["ask"]](message, arrays)
        except InvalidInput as error:
            reply, made = {"refused": str(error)[:LONGEST], "field": error.field}, ()
        except GauntletError as error:
            reply, made = {"failed": str(error)[:LONGEST]}, ()
        except MemoryError:
            reply, made = {"failed": "it needs more memory than it may have"}, ()
        wire.send(line, reply, *made)


def _allow(seconds: float) -> None:
    """Processor time for the next answer, of all threads together."""
    spent = time.process_time()
    cores = len(os.sched_getaffinity(0))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent + (seconds + SPARE) * cores) + 1, hard))
