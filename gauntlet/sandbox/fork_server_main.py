"""``python -m gauntlet.sandbox.fork_server_main FD``: imports what children need, and forks them when asked to."""

import importlib
import os
import signal
import socket
import sys
import tempfile
import traceback

from gauntlet.process_priority import lower_priority
from gauntlet.sandbox import confinement

PR_SET_PDEATHSIG = 1
MODULES = {"files": "gauntlet.sandbox.file_child", "models": "gauntlet.sandbox.model_child"}
"""What a child runs, by its work."""
ENDED = "ended "
MOST_FILES = 16
"""That a child gets open at its start."""


def _redirect(printed: int) -> None:
    """What this process and its libraries print goes to the asker's file: no log gets it raw."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(printed, stream.fileno())
    os.close(printed)


def _run_child(
    line: socket.socket, files: list[int], work: str, memory: int, threads: int, folder: str, parent: int
) -> None:
    """All that a child does. Its own files lie in the folder, others it gets open. It is confined before it reads."""
    confinement.LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    os.setsid()  # it has no terminal
    lower_priority()
    tempfile.tempdir = folder
    confinement.close_all_but({0, 1, 2, line.fileno(), *files})
    confinement.limit(memory)
    confinement.confine(folder)
    importlib.import_module(MODULES[work]).run(line, threads, files)


def _child_main(passed: list[int], order: str, parent: int) -> None:
    """In a fork: never returns."""
    status = 1
    line, printed, *files = passed
    try:
        _redirect(printed)
        work, memory, threads, folder = order.split(" ", 3)
        _run_child(socket.socket(fileno=line), files, work, int(memory), int(threads), folder, parent)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _reap_children(statuses: dict[int, int]) -> None:
    """Note how every child ended that has ended: its wait status by its pid."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        statuses[pid] = status


def main() -> None:
    """Fork children, and tell how they ended, until nobody asks any more.

    An order is ``WORK MEMORY THREADS FOLDER``, with the child's end of a socket, a file for what it prints, and the
    files that it works on: the answer is its pid, with a pidfd. Or it is ``ended PID``: the answer is its wait status,
    or ``unknown``.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    me, statuses = os.getpid(), dict[int, int]()
    while True:
        data, passed, _, _ = socket.recv_fds(control, 4096, 2 + MOST_FILES)
        if not data:
            return
        _reap_children(statuses)
        order = data.decode()
        if order.startswith(ENDED):
            status = statuses.pop(int(order.removeprefix(ENDED)), None)
            control.send(b"unknown" if status is None else str(status).encode())
            continue
        importlib.import_module(MODULES[order.partition(" ")[0]])
        pid = os.fork()
        if pid == 0:
            control.close()
            _child_main(passed, order, me)
        handle = os.pidfd_open(pid)
        socket.send_fds(control, [str(pid).encode()], [handle])
        for descriptor in (handle, *passed):
            os.close(descriptor)


if __name__ == "__main__":
    main()
