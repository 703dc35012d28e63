"""Ports for servers of the tests."""

import random
import socket

BELOW = 32_000  # from 32768 on Linux gives ports to outgoing connections: one that was free a moment ago may be taken


def free_port() -> int:
    """One that nobody listens on, nobody else is about to and no outgoing connection gets."""
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(10_000, BELOW)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
