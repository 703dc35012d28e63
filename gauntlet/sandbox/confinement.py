"""What a child may do, before it reads anything of a client: whatever code gets into it later may do no more.

Landlock leaves it the files that Python and the libraries load, and one folder of its own. The seccomp filter leaves it
no sockets, no processes and no hold on others (``syscall_filter``). Capabilities go too, so a service that root runs is
confined alike.
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

FILES = 256  # open at once
LONGEST_FILE = 2**31
CPU_LIFETIME = 24 * 3600  # seconds of each core; each answer has a shorter limit, which the child sets itself

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
CAPABILITY_VERSION = 0x20080522

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every machine
VERSION_QUERY, PATH_BENEATH = 1, 1
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
MAKE_DIR, MAKE_FILE, TRUNCATE = 1 << 7, 1 << 8, 1 << 14
READ = READ_FILE | READ_DIR
OWN = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | TRUNCATE
"""In the folder of a child: no links, which might lead whoever deletes the folder elsewhere."""
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # by the ABI that brings them: how many rights there are
NETWORK_ABI, SCOPE_ABI = 4, 6
TCP, SCOPES = 0b11, 0b11  # bind and connect; abstract Unix sockets and signals


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def missing() -> list[str]:
    """What this machine lacks of the confinement, in words; nothing where it is complete."""
    lacks = []
    if landlock_abi() == 0:
        lacks.append("Landlock (Linux 5.13 or later, switched on): it can read and write the files of this user")
    if not syscall_filter.supported(LIBC):
        lacks.append("seccomp filters on x86_64 or aarch64: it can connect, start processes and signal others")
    return lacks


def landlock_abi() -> int:
    """The version of the kernel's Landlock; 0: it has none, or it is switched off."""
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, 0, VERSION_QUERY)))


def confine(folder: str) -> None:
    """From here on this process, which has one thread, is confined, for good, as far as ``missing`` says it can be.

    Raises OSError where the kernel has something and refuses it.
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
    """Bytes beyond what this process has now, files, and processor time: hard limits, which it cannot raise.

    None on tasks (RLIMIT_NPROC): that counts all tasks of the user, the service's too, and memory bounds its threads.
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
    """Close every other descriptor of this process."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                os.close(int(entry.name))


def readable() -> Iterator[str]:
    """What Python and the libraries may still load when it is first needed."""
    yield str(PACKAGE)
    yield str(Path(sys.base_prefix, "lib"))
    yield from (entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))
    yield from (*LIBRARIES, *SYSTEM)


def _restrict_files(folder: str, abi: int) -> None:
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
    """These rights to a file, or to all below a folder; nothing where there is none."""
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
    """Its result. Raises OSError."""
    result = function(*(ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: this process cannot be confined")
    return result
