"""Starts the processes of the service as forks of one that has imported what they share: an import takes seconds.

BentoML's parent forks that one before it has threads or sockets, and asks it for processes where it would call
``subprocess``. Each becomes a child of the asking process, which adopts orphans (PR_SET_CHILD_SUBREAPER): it is waited
for, signalled and restarted like any other. Linux only; elsewhere, and once the fork server has failed, processes are
started by ``subprocess``.
"""

import contextlib
import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import psutil

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
LARGEST = 2**20  # bytes of an order: the arguments and the environment
START_TIMEOUT = 60.0  # seconds that a fork may take on a machine short of memory


class ForkedProcess(psutil.Process):  # type: ignore[misc]  # psutil has no types
    """What callers of ``subprocess.Popen`` need."""

    stdout = stderr = None

    def poll(self) -> int | None:
        """Its exit status once it has ended; 0 where somebody else has waited for it."""
        with contextlib.suppress(psutil.TimeoutExpired):
            return self.wait(0) or 0
        return None

    @property
    def returncode(self) -> int | None:
        return self.poll()


Started: TypeAlias = ForkedProcess | psutil.Popen


@dataclass(frozen=True)
class Order:
    """For ``python -m module arguments``."""

    name: str
    module: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    inherited: list[int]


class ProcessStarter:
    """To be made while the process has no threads of its own; what it has imported by then is not imported again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        if sys.platform != "linux":
            return
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(START_TIMEOUT)
        _flush()
        if os.fork() == 0:
            self._line.close()
            _serve(theirs)
        theirs.close()

    def start(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        inherited: Sequence[int] = (),
    ) -> Started:
        """``python -m module arguments`` in ``folder``. ``name`` is what ``ps -o comm`` shows (15 characters).

        It inherits the file descriptors named, standard output and error. Raises OSError where it cannot be started.
        """
        order = Order(name, module, list(arguments), dict(environment), str(folder), list(inherited))
        with self._lock:
            pid = self._fork(json.dumps(asdict(order)).encode(), inherited)
        if pid is not None:
            try:
                return ForkedProcess(pid)
            except psutil.NoSuchProcess as error:  # somebody has waited for it already
                raise ChildProcessError(f"the process {name} has ended at once") from error
        return psutil.Popen(
            [sys.executable, "-m", module, *arguments],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            start_new_session=True,
        )

    def _fork(self, order: bytes, inherited: Sequence[int]) -> int | None:
        """The pid of the process that the fork server has started; None where there is no fork server.

        One that fails is not asked again: an answer that comes too late would be taken for that to the next order.
        """
        if self._line is None:
            return None
        try:
            socket.send_fds(self._line, [order], inherited)
            if answer := self._line.recv(32):
                return int(answer)
        except OSError:  # a timeout too
            pass
        self._line.close()
        self._line = None
        return None


def _serve(line: socket.socket) -> NoReturn:
    """Fork when asked, until the asking process ends."""
    os.setsid()  # signals for the group of the asking process are not for this one
    _prctl(PR_SET_NAME, b"fork-server")
    with contextlib.suppress(OSError):
        while True:
            order, descriptors, _, _ = socket.recv_fds(line, LARGEST, 8)
            if not order:
                break
            pid = _fork_child(line, order, descriptors)
            try:
                line.send(str(pid).encode())
            except OSError:  # nobody waits for it any more: another has been started in its place
                os.kill(pid, signal.SIGKILL)
                break
            for descriptor in descriptors:
                os.close(descriptor)
    os._exit(0)


def _fork_child(line: socket.socket, order: bytes, descriptors: list[int]) -> int:
    """Fork twice, so that the process asked for has no parent here: the nearest subreaper adopts it.

    Returns its pid. Raises OSError where there can be no process.
    """
    read_pid, write_pid = os.pipe()
    read_exit, write_exit = os.pipe()
    if (intermediate := os.fork()) == 0:
        if (pid := os.fork()) == 0:
            os.close(write_exit)
            os.read(read_exit, 1)  # until the intermediate process has ended
            line.close()
            for descriptor in (read_pid, write_pid, read_exit):
                os.close(descriptor)
            _run(Order(**json.loads(order)), descriptors)
        os.write(write_pid, str(pid).encode())
        os._exit(0)
    os.close(write_pid)  # or a read would wait for ever where the intermediate process has written nothing
    os.waitpid(intermediate, 0)
    answer = os.read(read_pid, 32)
    for descriptor in (read_pid, read_exit, write_exit):
        os.close(descriptor)
    if not answer:
        raise ChildProcessError("the second fork has failed")
    return int(answer)


def _run(order: Order, descriptors: list[int]) -> NoReturn:
    """Run the module that was asked for, as if the interpreter had just been started for it."""
    status = 1
    try:
        os.setsid()
        _prctl(PR_SET_NAME, order.name.encode())
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        _place(descriptors, order.inherited)
        os.environ.clear()
        os.environ.update(order.environment)
        os.chdir(order.folder)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = [order.module, *order.arguments]
        runpy.run_module(order.module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  as the interpreter does at its end, and multiprocessing after a fork
        _flush()
        os._exit(status)


def _place(descriptors: list[int], numbers: Sequence[int]) -> None:
    """Give the received descriptors the numbers that they have where they come from."""
    free = max([*descriptors, *numbers], default=0) + 1
    spare = [os.dup2(descriptor, free + place) for place, descriptor in enumerate(descriptors)]
    for number, descriptor in zip(numbers, spare, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _prctl(option: int, value: int | bytes) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
