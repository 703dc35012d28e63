"""Which process goes first where several want the same cores."""

import contextlib
import os
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def lower_priority(by: int = 0) -> None:
    """Add to this thread's nice value, and give its session the same. Call it early, and after every ``setsid``.

    Where Linux groups tasks by session (``kernel.sched_autogroup_enabled``, see sched(7)), sessions share the cores
    alike, and a nice value counts only within its session. Elsewhere the second step changes nothing.
    """
    nice = os.nice(by)
    with contextlib.suppress(OSError):  # no such file, or asked for too often
        AUTOGROUP.write_text(str(nice))
