"""Client of the fork server (fork_server_main): starts child processes and exchanges messages with them.

A fork of a process that has imported torch but computed nothing is ready in milliseconds; an import takes seconds.
"""

import contextlib
import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal

from gauntlet.errors import ModelFailed, Unconfined, escaped
from gauntlet.runtime import core_count
from gauntlet.sandbox import confinement, protocol
from gauntlet.sandbox.fork_server_main import ENDED
from gauntlet.sandbox.protocol import Array, Message

Work = Literal["files", "models"]

ROOT = Path(__file__).resolve().parents[2]
INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS")
"""Inherited environment variables. Others may hold secrets, as the address of the job database does."""
SERVER_MODULE = "gauntlet.sandbox.fork_server_main"
START_TIMEOUT = 120.0  # seconds for the import of torch on a busy machine
EXIT_TIMEOUT = 1.0  # seconds for a killed child to end
POLL = 0.1  # seconds between two calls of check_cancelled
STOP_TIMEOUT = 10.0  # seconds for a child to stop computing after a cancellation
MAX_OUTPUT = 2**16  # bytes of the output of a child that are kept
LOGGED_OUTPUT = 2000  # bytes of it that reach the log
CLOSED = "it was closed"
LOGGER = logging.getLogger("gauntlet.sandbox")

OUT_OF_MEMORY = ("bad_alloc", "Cannot allocate memory", "can't allocate memory", "MemoryError")
SIGNAL_REASONS: dict[int, str] = {
    signal.SIGXCPU: "it used more processor time than it may",
    signal.SIGKILL: "it was killed from outside (SIGKILL), as the system does where memory runs out",
    signal.SIGTERM: "it was ended from outside (SIGTERM)",
}


@dataclass(frozen=True)
class Limits:
    """Limits of a child process, and whether it may run on a machine that cannot confine it completely."""

    memory: int = 2 * 2**30  # bytes beyond those that it has when it starts
    threads: int = 0  # of one computation; 0: all cores
    require_confinement: bool = False


class Child:
    """A child process that answers one request at a time, and is stopped (SIGSTOP) in between.

    Thread-safe. Its folder is deleted when it ends.
    """

    def __init__(
        self,
        line: socket.socket,
        handle: int,
        folder: TemporaryDirectory[str],
        printed: IO[bytes],
        ended: Callable[[], int | None],
    ) -> None:
        """``handle`` is its pidfd, ``printed`` its output; ``ended`` returns its wait status, None if unknown."""
        self._line, self._handle, self._folder, self._printed, self._ended = line, handle, folder, printed, ended
        self._lock, self._ending = threading.Lock(), threading.Lock()
        self._cause: str | None = None

    @property
    def alive(self) -> bool:
        """Whether its process still runs. This also detects that it ended between two requests."""
        with self._ending:
            ended = self._cause is None and select.select([self._handle], [], [], 0)[0]
        if ended:
            self._end(None)
        return self._cause is None

    def ask(
        self,
        message: Message,
        *arrays: Array,
        seconds: float,
        most: int = 0,
        check_cancelled: Callable[[], None] | None = None,
    ) -> tuple[Message, list[Array]]:
        """Send a request and return the answer. Raises ModelFailed if there is none in time; then the child is ended.

        The arrays of an answer may have at most ``most`` bytes, so that the child cannot exhaust this process's memory.
        ``check_cancelled`` is called while the child computes. If it raises, the request is cancelled, the exception is
        passed on, and the child remains usable.
        """
        with self._lock:
            if self._cause is not None:
                raise ModelFailed(self._cause)
            deadline = time.monotonic() + seconds
            self._signal(signal.SIGCONT)
            try:
                self._line.settimeout(seconds)
                protocol.send(self._line, message | {"seconds": seconds}, *arrays)
                if check_cancelled is not None:
                    self._wait(deadline, check_cancelled, most)
                answer = protocol.receive(self._line, deadline, most)
            except TimeoutError:
                cause = f"it took longer than {seconds:g} s and was stopped"
            except (EOFError, OSError):
                cause = None
            except protocol.Garbled as error:
                cause = f"it does not keep to the protocol ({error})"
            else:
                self._signal(signal.SIGSTOP)  # it must not compute between requests
                return answer
            raise ModelFailed(self._end(cause))

    def _signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        with self._ending, contextlib.suppress(ProcessLookupError):
            if self._cause is None:
                signal.pidfd_send_signal(self._handle, number)

    def _wait(self, deadline: float, check_cancelled: Callable[[], None], most: int) -> None:
        """Wait for the answer, at most until the deadline. If ``check_cancelled`` raises, cancel and raise the same."""
        while not self._readable(deadline):
            try:
                check_cancelled()
            except BaseException:
                self._cancel(most)
                raise

    def _readable(self, deadline: float) -> bool:
        """Whether there is something to read, or the deadline has passed. Raises OSError if the child was closed."""
        left = deadline - time.monotonic()
        try:
            return left <= 0 or bool(select.select([self._line], [], [], min(POLL, left))[0])
        except ValueError as error:
            raise OSError(CLOSED) from error

    def _cancel(self, most: int) -> None:
        """Make the child stop computing, and discard its answer."""
        try:
            protocol.send(self._line, protocol.CANCEL)
            protocol.receive(self._line, time.monotonic() + STOP_TIMEOUT, most)
            self._signal(signal.SIGSTOP)
        except (OSError, EOFError, protocol.Garbled):
            self._end("it did not stop when its request was cancelled")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._end(CLOSED)

    def _end(self, cause: str | None) -> str:
        """Kill the process and free its resources, once. Return the first known cause, by default its exit reason."""
        with self._ending:
            if self._cause is None:
                if cause is None:  # a process that closes its socket is about to end
                    select.select([self._handle], [], [], EXIT_TIMEOUT)
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)
                select.select([self._handle], [], [], EXIT_TIMEOUT)
                status, printed = self._ended(), printed_end(self._printed)
                self._cause = cause or f"it died: {exit_reason(status, printed)}"
                if printed and cause != CLOSED:
                    LOGGER.warning("a sandboxed process ended: %s; it printed: %s", self._cause, printed)
                os.close(self._handle)
                self._line.close()
                self._printed.close()
                _remove(self._folder)
            return self._cause


def _output_file() -> IO[bytes]:
    """Create a file in memory for the output of a child, of fixed size: more output is lost, and fills no disk."""
    handle = os.memfd_create("sandbox-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, MAX_OUTPUT)
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return os.fdopen(handle, "rb")


def _remove(folder: TemporaryDirectory[str]) -> None:
    """Delete the folder of a child with rm: its subfolders may be nested deeper than Python can follow."""
    with contextlib.suppress(OSError):
        subprocess.run(["/bin/rm", "-rf", folder.name], check=False, stderr=subprocess.DEVNULL)  # noqa: S603 - our name
    folder.cleanup()


def printed_end(file: IO[bytes]) -> str:
    """Return the end of a child's output, on one line, escaped: it is untrusted."""
    printed = os.pread(file.fileno(), MAX_OUTPUT, 0).rstrip(b"\0")
    return escaped(printed[-LOGGED_OUTPUT:].decode("utf-8", "replace").strip())


def exit_reason(status: int | None, printed: str) -> str:
    """Describe to the user why a process ended, from its wait status and its output."""
    if status is None:
        return "the process that started it has ended too"
    if os.WIFEXITED(status):
        return f"its process ended with status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    if any(mark in printed for mark in OUT_OF_MEMORY):
        return "it needs more memory than it may have"
    known = {entry.value: entry.name for entry in signal.Signals}
    return SIGNAL_REASONS.get(number, f"it crashed ({known.get(number, number)})")


class ForkServer:
    """The fork server, started with the first child. Its children end with it, and it ends with this process."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._missing = confinement.missing()
        if self._missing:
            LOGGER.warning("uploaded files and models are confined only in part: %s", self.unconfined)

    @property
    def unconfined(self) -> str:
        """What this machine lacks to confine a child; empty if nothing."""
        return "; ".join(f"without {lack}" for lack in self._missing)

    @property
    def pid(self) -> int | None:
        """The pid of the fork server; None if it has not been started."""
        return None if self._process is None else self._process.pid

    def child(self, work: Work, files: Sequence[IO[bytes]] = ()) -> Child:
        """Start a child for reading files (without torch) or for running models (with torch).

        It inherits the open ``files``, so that their content need not be in the memory of this process.

        Raises ModelFailed if it cannot be started, Unconfined if it must be confined and this machine cannot do that.
        """
        if self._limits.require_confinement and self._missing:
            raise Unconfined(f"this machine cannot confine the process that would read or run it: {self.unconfined}")
        ours, theirs = socket.socketpair()
        folder = TemporaryDirectory(prefix="gauntlet-", ignore_cleanup_errors=True)
        printed = _output_file()
        with theirs, self._lock:
            for _ in range(2):  # a fork server that has died is replaced
                try:
                    pid, handle = self._order(work, [theirs, printed, *files], folder.name)
                    return Child(ours, handle, folder, printed, partial(self._ended, self._process, pid))
                except (OSError, EOFError):
                    self._stop()
        ours.close()
        printed.close()
        folder.cleanup()
        raise ModelFailed("no process could be started for it")

    def _order(self, work: Work, passed: Sequence[socket.socket | IO[bytes]], folder: str) -> tuple[int, int]:
        """Make the fork server fork, and return the child's pid and pidfd. Raises OSError or EOFError."""
        if self._line is None:
            self._start()
        assert self._line is not None
        threads = self._limits.threads or core_count.available()  # a child cannot read the limits of its cgroup
        order = f"{work} {self._limits.memory} {threads} {folder}".encode()
        self._line.settimeout(START_TIMEOUT)
        socket.send_fds(self._line, [order], [one.fileno() for one in passed])
        pid, handles, _, _ = socket.recv_fds(self._line, 64, 1)
        if not handles:
            raise EOFError
        return int(pid), handles[0]

    def _ended(self, process: "subprocess.Popen[bytes] | None", pid: int) -> int | None:
        """Return the wait status of a child of that fork server; None if it is unknown."""
        with self._lock:
            if self._line is None or self._process is not process:
                return None
            try:
                self._line.settimeout(START_TIMEOUT)
                self._line.send(f"{ENDED}{pid}".encode())
                answer = self._line.recv(64)
            except OSError:
                return None
            return int(answer) if answer.isdigit() else None

    def _start(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - no argument is untrusted
                [sys.executable, "-P", "-m", SERVER_MODULE, str(theirs.fileno())],
                env={**environment, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def _stop(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None

    def close(self) -> None:
        """End the fork server and all its children."""
        with self._lock:
            self._stop()
