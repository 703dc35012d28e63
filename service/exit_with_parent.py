"""A child process that must not outlive its parent, however the parent ends."""

import os
import threading
import time

INTERVAL = 0.5  # seconds between two looks
PARENT = "GAUNTLET_PARENT_PID"
"""The variable in which BentoML's parent tells its processes who it is: who asks for its parent late may find another,
which has adopted it."""


def exit_with_parent(parent: int) -> None:
    """End this process within a second after process ``parent`` has ended. Works for SIGKILL, and not only on Linux.

    Where ``parent`` is not the parent any more, it has ended already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL)
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
