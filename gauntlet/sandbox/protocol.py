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
MAX_ARRAYS = 2**32  # bytes of all arrays of a message, unless the receiver sets a lower limit
CANCEL: Message = {"ask": "cancel"}
"""Sent while an answer is computed, to cancel the request. It has no answer of its own."""
DTYPES = frozenset({"uint8", "int64", "float32", "float64"})


class Garbled(Exception):
    """The received bytes are not a valid message."""


def send(to: socket.socket, message: Message, *arrays: Array) -> None:
    """Send a message. Raises OSError if the other end is closed."""
    described = [[array.dtype.name, list(array.shape)] for array in arrays]
    head = json.dumps({"message": message, "arrays": described}).encode()
    to.sendall(HEAD.pack(len(head)) + head)
    for array in arrays:
        to.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def check_cancelled(source: socket.socket) -> None:
    """Raise Cancelled if anything arrived: while an answer is computed, the parent only sends CANCEL or hangs up."""
    if select.select([source], [], [], 0)[0]:
        raise Cancelled("the request was cancelled")


def receive(
    source: socket.socket, deadline: float | None = None, most: int = MAX_ARRAYS
) -> tuple[Message, list[Array]]:
    """Receive the next message.

    Args:
        source: the socket.
        deadline: on the monotonic clock; None: the timeout of the socket applies.
        most: bytes of all arrays of the message together.

    Raises:
        EOFError: the other end is closed.
        TimeoutError: the deadline passed.
        Garbled: it is not a valid message, or its arrays are too large.
        OSError: the socket failed.
    """
    (length,) = HEAD.unpack(_exactly(source, HEAD.size, deadline))
    if length > MAX_JSON:
        raise Garbled("its head is too long")
    try:
        head = json.loads(_exactly(source, length, deadline))
        message, described = head["message"], [(str(dtype), [int(n) for n in shape]) for dtype, shape in head["arrays"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:  # Python's JSON accepts Infinity
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
