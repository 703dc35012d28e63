"""The end of the compute process: it outlives the API processes, whose requests it still answers."""

import asyncio
import signal
import threading
import time
from typing import Any

from service.middleware.drain import SPARE, end_after
from service.process_lock import ProcessLock

LOOK = 0.05  # seconds between two looks whether an API process lives


def drain_after(api: ProcessLock, seconds: float) -> None:
    """From SIGTERM on wait until nobody shares ``api`` any more, or the time of the API processes is over; then end.

    To be called from the event loop, after uvicorn has set its own handlers.
    """
    uvicorns = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    over = seconds + 2 * SPARE  # an API process has ended by then

    def handler(*received: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_after(over + SPARE)
        threading.Thread(target=wait, args=received, daemon=True).start()

    def wait(*received: Any) -> None:
        deadline = time.monotonic() + over
        while time.monotonic() < deadline and not api.take_if_free():
            time.sleep(LOOK)
        if callable(uvicorns):
            loop.call_soon_threadsafe(uvicorns, *received)

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
