"""ONNX Runtime alone, on images already in memory: `python -m bench.serving.peers.bare SECONDS BATCH`, images/s."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from bench.serving.peers.model import open_session


def main() -> None:
    """Print one line: images per second."""
    seconds, batch = float(sys.argv[1]), int(sys.argv[2])
    session = open_session(Path(os.environ["PEER_MODEL"]), int(os.environ["PEER_THREADS"]))
    image_input = session.get_inputs()[0]
    x = np.random.default_rng(0).random((batch, *image_input.shape[1:]), np.float32)
    for _ in range(10):
        session.run(None, {image_input.name: x})
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.run(None, {image_input.name: x})
        runs += 1
    print(runs * batch / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
