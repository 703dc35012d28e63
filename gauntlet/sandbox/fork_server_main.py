"""The fork server, ``python -m gauntlet.sandbox.fork_server_main FD``: imports what children need, and forks them."""

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
"""The module that a child runs, by its kind of work."""
ENDED = "ended "
MOST_FILES = 16
"""The largest number of open files that a child can inherit."""


def _redirect(printed: int) -> None:
    """Redirect stdout and stderr to the parent's file: raw output of a child must not reach a log."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(printed, stream.fileno())
    os.close(printed)


def _run_child(
    line: socket.socket, files: list[int], work: str, memory: int, threads: int, folder: str, parent: int
) -> None:
    """Confine this child and serve requests. It may write files in ``folder`` only, and inherits ``files`` open."""
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
    """Run as a child after the fork. Never returns."""
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
    """Record the wait status of every child that has ended, by its pid."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        statuses[pid] = status


def main() -> None:
    """Fork children, and report how they ended, until the parent closes the control socket.

    An order is ``WORK MEMORY THREADS FOLDER``, with the child's end of a socket, a file for its output, and the files
    that it works on: the answer is its pid, with a pidfd. Or the order is ``ended PID``: the answer is the wait status
    of that child, or ``unknown``.
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
