"""The number of cores that this process may use, which may be fewer than the machine has.

In a container with a CPU limit on a large host, libraries start by default one thread for each core of the host, and
all these threads compete for the few cores that the container may use.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self/cgroup")
CPU = ("", "cpu", "cpu,cpuacct")  # names of the hierarchy with the CPU limit: of version 2, and two of version 1


def available(groups: Path = GROUPS, process: Path = PROCESS) -> int:
    """Return the size of the CPU affinity, or the limit of the cgroups (v1 or v2), rounded up, if that is less."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([affinity, *(max(1, math.ceil(limit)) for limit in _limits(groups, process))])


def _limits(groups: Path, process: Path) -> Iterator[float]:
    """Yield the CPU limits, in cores, of the process's cgroup and of those of its ancestors that are visible."""
    lines = process.read_text().splitlines() if process.exists() else []  # the file exists only on Linux
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
