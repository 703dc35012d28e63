"""How many cores this process may use, which is not how many the machine has.

In a container with a share of a big host, libraries left to themselves start a thread for each core of the host, and
these fight for the few that the container may use.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self/cgroup")
CPU = ("", "cpu", "cpu,cpuacct")  # what the hierarchy that has the limit is called: in version 2, and in version 1


def available(groups: Path = GROUPS, process: Path = PROCESS) -> int:
    """The process's affinity, or the limit of its control groups (version 1 or 2), rounded up, if that is less."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([own, *(max(1, math.ceil(limit)) for limit in _limits(groups, process))])


def _limits(groups: Path, process: Path) -> Iterator[float]:
    """In cores: of the process's group, and of those around it as far as they can be seen."""
    lines = process.read_text().splitlines() if process.exists() else []  # there is none but on Linux
    for _, hierarchy, path in (line.split(":", 2) for line in lines):
        if hierarchy in CPU:
            group = groups / hierarchy / path.lstrip("/")
            for folder in (group, *group.parents):
                yield from _limit(folder)


def _limit(folder: Path) -> Iterator[float]:
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        if all((folder / name).is_file() for name in files):
            quota, period = " ".join((folder / name).read_text() for name in files).split()
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)
