"""CPU priority of a process: its nice value and that of its scheduling autogroup."""

import contextlib
import os
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def lower_priority(by: int = 0) -> None:
    """Add ``by`` to this thread's nice value, and set its autogroup to the result. Call it early, and after ``setsid``.

    Where Linux groups tasks by session (``kernel.sched_autogroup_enabled``, see sched(7)), sessions share the cores
    equally, and a nice value counts only within its session. On other systems the second step has no effect.
    """
    nice = os.nice(by)
    with contextlib.suppress(OSError):  # no such file, or changed too often
        AUTOGROUP.write_text(str(nice))
