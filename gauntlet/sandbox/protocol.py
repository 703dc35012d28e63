"""Messages over a socket: a JSON object and raw arrays. Nothing in them is ever executed."""

import json
import math
import select
import socket
import struct
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet.errors import Cancelled

Array = NDArray[Any]
Message = dict[str, Any]

HEAD = struct.Struct("!I")
MAX_JSON = 2**24
MAX_ARRAYS = 2**32  # bytes of all arrays of a message, where who receives it expects no less
CANCEL: Message = {"ask": "cancel"}
"""While an answer is computed: it is not wanted any more. Has no answer of its own."""
DTYPES = frozenset({"uint8", "int64", "float32", "float64"})


class Garbled(Exception):
    """What came is not a message."""


def send(to: socket.socket, message: Message, *arrays: Array) -> None:
    """Raises OSError where nobody listens any more."""
    described = [[array.dtype.name, list(array.shape)] for array in arrays]
    head = json.dumps({"message": message, "arrays": described}).encode()
    to.sendall(HEAD.pack(len(head)) + head)
    for array in arrays:
        to.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def check_cancelled(source: socket.socket) -> None:
    """Raises Cancelled where the asker says ``CANCEL``, or hangs up: it says nothing else until it has an answer."""
    if select.select([source], [], [], 0)[0]:
        raise Cancelled("nobody wants the answer any more")


def receive(
    source: socket.socket, deadline: float | None = None, most: int = MAX_ARRAYS
) -> tuple[Message, list[Array]]:
    """The next message, until ``deadline`` on the monotonic clock, whose arrays have at most so many bytes.

    Raises EOFError at the end, TimeoutError, Garbled for what is none, OSError.
    """
    (length,) = HEAD.unpack(_exactly(source, HEAD.size, deadline))
    if length > MAX_JSON:
        raise Garbled("its head is too long")
    try:
        head = json.loads(_exactly(source, length, deadline))
        message, described = head["message"], [(str(dtype), [int(n) for n in shape]) for dtype, shape in head["arrays"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:  # JSON here knows Infinity
        raise Garbled("its head is not what it should be") from error
    if not isinstance(message, dict) or any(
        name not in DTYPES or min(shape, default=0) < 0 for name, shape in described
    ):
        raise Garbled("its head is not what it should be")
    sizes = [math.prod(shape) * np.dtype(name).itemsize for name, shape in described]
    if sum(sizes) > most:
        raise Garbled("its arrays are too large")
    arrays = [
        np.frombuffer(_exactly(source, size, deadline), dtype=name).reshape(shape)
        for (name, shape), size in zip(described, sizes, strict=True)
    ]
    return message, arrays


def _exactly(source: socket.socket, count: int, deadline: float | None) -> bytearray:
    buffer = bytearray(count)
    view, got = memoryview(buffer), 0
    while got < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            source.settimeout(left)
        read = source.recv_into(view[got:])
        if read == 0:
            raise EOFError
        got += read
    return buffer
