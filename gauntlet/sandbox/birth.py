"""``python -m gauntlet.sandbox.birth FD``: a nursery. It imports what children need, and forks them when asked to."""

import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import tempfile
from pathlib import Path

FILES = 256  # open at once in a child
LONGEST_FILE = 2**28
PR_SET_PDEATHSIG = 1


def _limit(memory: int) -> None:
    """In a child that has just been born: nothing that it does from here on can take more."""
    born = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (born + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LONGEST_FILE,) * 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _bear(line: socket.socket, work: str, memory: int, threads: int, folder: str, parent: int) -> None:
    """The whole life of a child, whose files all lie in the folder."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _limit(memory)
    tempfile.tempdir = folder
    importlib.import_module(f"gauntlet.sandbox.{work}").live(line, threads)


def main() -> None:
    """Bear children until nobody asks any more."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead need no burial
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    me = os.getpid()
    while True:
        order, lines, _, _ = socket.recv_fds(control, 4096, 1)
        if not order:
            return
        work, memory, threads, folder = order.decode().split(" ", 3)
        importlib.import_module(f"gauntlet.sandbox.{work}")
        pid = os.fork()
        if pid == 0:
            control.close()
            try:
                _bear(socket.socket(fileno=lines[0]), work, int(memory), int(threads), folder, me)
            finally:
                os._exit(0)
        handle = os.pidfd_open(pid)
        socket.send_fds(control, [str(pid).encode()], [handle])
        os.close(handle)
        os.close(lines[0])


if __name__ == "__main__":
    main()
