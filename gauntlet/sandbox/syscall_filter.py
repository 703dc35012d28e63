"""The seccomp filter of a child: a list of system calls that it may not make. All others are allowed.

It does not use libseccomp or pyseccomp: slim images lack the library that both need, and without it there would be no
filter.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

REFUSED: dict[str, str] = {
    "sockets": "accept 43 202, accept4 288 242, bind 49 200, connect 42 203, listen 50 201, socket 41 198, "
    "socketpair 53 199",
    "programs and processes": "execve 59 221, execveat 322 281, fork 57 -, vfork 58 -",
    "memory and descriptors of others": "kcmp 312 272, pidfd_getfd 438 438, pidfd_open 434 434, "
    "process_madvise 440 440, process_mrelease 448 448, process_vm_readv 310 270, process_vm_writev 311 271, "
    "ptrace 101 117",
    "signals to others": "pidfd_send_signal 424 424, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, tkill 200 130",
    "speed of others": "ioprio_set 251 30, migrate_pages 256 238, move_pages 279 239, sched_setattr 314 274, "
    "sched_setparam 142 118, sched_setscheduler 144 119, setpriority 141 140, sync 162 81, syncfs 306 267",
    "owner, mode and attributes of files, which Landlock leaves open": "chmod 90 -, chown 92 -, fchmod 91 52, "
    "fchmodat 268 53, fchmodat2 452 452, fchown 93 55, fchownat 260 54, file_setattr 469 469, fremovexattr 199 16, "
    "fsetxattr 190 7, futimesat 261 -, lchown 94 -, lremovexattr 198 15, lsetxattr 189 6, removexattr 197 14, "
    "removexattrat 466 466, setxattr 188 5, setxattrat 463 463, truncate 76 45, utime 132 -, "
    "utimensat 280 88, utimes 235 -",
    "memory that no limit counts, or that others share": "memfd_create 319 279, memfd_secret 447 447, mq_open 240 180, "
    "mq_unlink 241 181, msgctl 71 187, msgget 68 186, msgrcv 70 188, msgsnd 69 189, semctl 66 191, semget 64 190, "
    "semop 65 193, semtimedop 220 192, shmat 30 196, shmctl 31 195, shmget 29 194",
    "namespaces and mounts": "chroot 161 51, fsconfig 431 431, fsmount 432 432, fsopen 430 430, fspick 433 433, "
    "mount 165 40, mount_setattr 442 442, move_mount 429 429, name_to_handle_at 303 264, open_by_handle_at 304 265, "
    "open_tree 428 428, open_tree_attr 467 467, pivot_root 155 41, setns 308 268, umount2 166 39, unshare 272 97",
    "parts of the kernel with a large surface": "add_key 248 217, bpf 321 280, fanotify_init 300 262, "
    "io_uring_enter 426 426, io_uring_register 427 427, io_uring_setup 425 425, keyctl 250 219, modify_ldt 154 -, "
    "perf_event_open 298 241, personality 135 92, request_key 249 218, syslog 103 116, userfaultfd 323 282",
}
"""System calls by purpose, each with its number on x86_64 and on aarch64; - if it does not exist there."""
CONDITIONAL = "clone 56 220, clone3 435 435, fcntl 72 25, ioctl 16 29, kill 62 129, prctl 157 167, prlimit64 302 261, "
CONDITIONAL += "sched_setaffinity 203 122, tgkill 234 131"

MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, and the column in the tables
FOREIGN_NUMBERS = 0x40000000  # x86_64: numbers from here on are those of the x32 ABI

THREAD = 0x00010100  # CLONE_VM | CLONE_THREAD
NAMESPACES = 0x7E020000  # CLONE_NEW*
SIGNAL_OWNER = (8, 10, 15)  # fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX send any signal to any process
TERMINAL_INPUT = (0x5412, 0x541C, 0x8901, 0x8902)  # ioctl: TIOCSTI, TIOCLINUX; FIOSETOWN, SIOCSPGRP
PR_SET_PDEATHSIG = 1

LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06  # BPF
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
PR_GET_SECCOMP, PR_SET_SECCOMP, FILTER = 21, 22, 2


class Instruction(NamedTuple):
    """A classic BPF instruction: a jump skips ``yes`` instructions if its condition holds, ``no`` if not."""

    code: int
    value: int
    yes: int = 0
    no: int = 0


REFUSE = Instruction(RETURN, FAIL | errno.EPERM)
PASS = Instruction(RETURN, ALLOW)


def numbers(table: str, machine: str) -> dict[str, int]:
    """Return the numbers of the calls in a table, by name, without those that the machine does not have."""
    rows = (entry.split() for entry in table.rstrip(", ").split(", "))
    column = 1 + MACHINES[machine][1]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def program(machine: str, pid: int) -> list[Instruction]:
    """Return the filter for the process ``pid``. A call of another architecture, such as 32 bits, kills the process."""
    known = numbers(CONDITIONAL, machine)
    refused = [number for table in REFUSED.values() for number in numbers(table, machine).values()]
    lines = [
        Instruction(LOAD, ARCHITECTURE),
        Instruction(EQUAL, MACHINES[machine][0], yes=1),
        Instruction(RETURN, KILL),
        Instruction(LOAD, NUMBER),
    ]
    if machine == "x86_64":
        lines += [Instruction(AT_LEAST, FOREIGN_NUMBERS, no=1), REFUSE]
    for number in refused:
        lines += [Instruction(EQUAL, number, no=1), REFUSE]
    lines += [Instruction(EQUAL, known["clone3"], no=1), Instruction(RETURN, FAIL | errno.ENOSYS)]  # glibc uses clone
    lines += _where(known["clone"], _only_threads())
    for name, place, allowed in (("kill", 0, (pid,)), ("tgkill", 0, (pid,)), ("prlimit64", 0, (0, pid))):
        lines += _where(known[name], _only(place, allowed))
    lines += _where(known["sched_setaffinity"], _only(0, (0, pid)))
    for name, place, forbidden in (("fcntl", 1, SIGNAL_OWNER), ("ioctl", 1, TERMINAL_INPUT)):
        lines += _where(known[name], _none(place, forbidden))
    lines += _where(known["prctl"], _none(0, (PR_SET_PDEATHSIG,)))  # without it the child would survive its parent
    return [*lines, PASS]


def _where(number: int, body: Iterator[Instruction]) -> list[Instruction]:
    """Apply ``body``, which ends with a return, to the call of this number."""
    lines = list(body)
    return [Instruction(EQUAL, number, no=len(lines)), *lines]


def _only(place: int, allowed: tuple[int, ...]) -> Iterator[Instruction]:
    """Allow the call only if the argument at ``place`` is one of these."""
    yield Instruction(LOAD, ARGUMENTS + 8 * place)  # the lower 32 bits: the kernel ignores the others
    for value in allowed:
        yield from (Instruction(EQUAL, value, no=1), PASS)
    yield REFUSE


def _none(place: int, forbidden: tuple[int, ...]) -> Iterator[Instruction]:
    """Refuse the call if the argument at ``place`` is one of these."""
    yield Instruction(LOAD, ARGUMENTS + 8 * place)
    for value in forbidden:
        yield from (Instruction(EQUAL, value, no=1), REFUSE)
    yield PASS


def _only_threads() -> Iterator[Instruction]:
    """Allow clone only for threads: tasks in this process, with its memory, and without new namespaces."""
    yield Instruction(LOAD, ARGUMENTS)
    yield from (Instruction(ANY_BIT, NAMESPACES, no=1), REFUSE)
    yield Instruction(AND, THREAD)
    yield from (Instruction(EQUAL, THREAD, no=1), PASS)
    yield REFUSE


class _Filter(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.POINTER(_Filter))]


def install(libc: ctypes.CDLL, lines: list[Instruction]) -> None:
    """Install the filter in this process, irrevocably. Needs PR_SET_NO_NEW_PRIVS. Raises OSError."""
    filters = (_Filter * len(lines))(*(_Filter(line.code, line.yes, line.no, line.value) for line in lines))
    if libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(_Program(len(lines), filters)), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp refuses its filter")


def supported(libc: ctypes.CDLL) -> bool:
    """Whether the kernel supports seccomp filters, and the call numbers of this architecture are in the tables."""
    return os.uname().machine in MACHINES and libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
