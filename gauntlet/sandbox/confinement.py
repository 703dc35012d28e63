"""Confinement of a child process, before it reads any client data: code injected later has no more rights.

Landlock restricts it to the files that Python and the libraries load, and one folder of its own. The seccomp filter
denies it new sockets, new processes and access to other processes (``syscall_filter``). Capabilities are dropped too,
so a service that runs as root is confined in the same way.
"""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from gauntlet.sandbox import syscall_filter

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
SYSTEM = ("/sys/devices/system/cpu", "/proc/cpuinfo", "/dev/urandom")
DISCARD = "/dev/null"

FILES = 256  # open at the same time
LONGEST_FILE = 2**31  # bytes
CPU_LIFETIME = 24 * 3600  # seconds of each core; each answer has a shorter limit, which the child sets itself

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
CAPABILITY_VERSION = 0x20080522

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
VERSION_QUERY, PATH_BENEATH = 1, 1
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
MAKE_DIR, MAKE_FILE, TRUNCATE = 1 << 7, 1 << 8, 1 << 14
READ = READ_FILE | READ_DIR
OWN = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | TRUNCATE
"""Rights in the folder of a child. It cannot create links: they could lead the deletion of the folder elsewhere."""
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # number of file rights, by the ABI version that introduced them
NETWORK_ABI, SCOPE_ABI = 4, 6
TCP, SCOPES = 0b11, 0b11  # bind and connect; abstract Unix sockets and signals


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def missing() -> list[str]:
    """Describe the parts of the confinement that this machine does not support; empty if it supports all."""
    lacks = []
    if landlock_abi() == 0:
        lacks.append("Landlock (Linux 5.13 or later, switched on): it can read and write the files of this user")
    if not syscall_filter.supported(LIBC):
        lacks.append("seccomp filters on x86_64 or aarch64: it can connect, start processes and signal others")
    return lacks


def landlock_abi() -> int:
    """Return the version of the kernel's Landlock; 0 if it has none, or Landlock is switched off."""
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, 0, VERSION_QUERY)))


def confine(folder: str) -> None:
    """Confine this process, which must have one thread, irrevocably, with all that ``missing`` does not list.

    Raises OSError if the kernel supports a part of the confinement, but refuses it.
    """
    _call(LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(LIBC.prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)  # other processes of this user cannot read its memory
    abi = landlock_abi()
    if abi:
        _restrict_files(folder, abi)
    _drop_capabilities()
    if syscall_filter.supported(LIBC):
        syscall_filter.install(LIBC, syscall_filter.program(os.uname().machine, os.getpid()))


def limit(memory: int) -> None:
    """Set hard limits, which this process cannot raise, on memory, files and processor time.

    ``memory`` is in bytes beyond those that the process has now. There is no limit on tasks (RLIMIT_NPROC): it would
    count all tasks of the user, including the service's; the threads of the process are bounded by its memory.
    """
    initial = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in {
        resource.RLIMIT_AS: initial + memory,
        resource.RLIMIT_FSIZE: LONGEST_FILE,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: CPU_LIFETIME * len(os.sched_getaffinity(0)),
    }.items():
        _, hard = resource.getrlimit(kind)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lower, lower))


def close_all_but(kept: Collection[int]) -> None:
    """Close all file descriptors of this process except ``kept``."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) not in kept:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself is already closed
                os.close(int(entry.name))


def readable() -> Iterator[str]:
    """Yield the paths from which Python and the libraries may still load files when they first need them."""
    yield str(PACKAGE)
    yield str(Path(sys.base_prefix, "lib"))
    yield from (entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))
    yield from (*LIBRARIES, *SYSTEM)


def _restrict_files(folder: str, abi: int) -> None:
    """Apply Landlock: read and write in ``folder`` and DISCARD, read in ``readable``, nothing else; raise OSError."""
    count = FILE_RIGHTS[max(version for version in FILE_RIGHTS if version <= abi)]
    handled = (1 << count) - 1
    wanted = _Ruleset(handled, TCP if abi >= NETWORK_ABI else 0, SCOPES if abi >= SCOPE_ABI else 0)
    ruleset = _call(LIBC.syscall, CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0)
    try:
        _allow(ruleset, folder, OWN & handled)
        _allow(ruleset, DISCARD, READ_FILE | WRITE_FILE)
        for path in readable():
            _allow(ruleset, path, READ)
        _call(LIBC.syscall, RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Add a rule with these rights to a file, or to everything below a folder, if it exists."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not Path(path).is_dir():
            rights &= WRITE_FILE | READ_FILE | TRUNCATE
        _call(LIBC.syscall, ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(_Beneath(rights, handle)), 0)
    finally:
        os.close(handle)


def _drop_capabilities() -> None:
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    _call(LIBC.capset, header, none)


def _call(function: Callable[..., int], *arguments: object) -> int:
    """Call a C function and return its result. Raises OSError if it is negative."""
    result = function(*(ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: this process cannot be confined")
    return result
