"""Asks the fork server (fork_server_main) for child processes, and talks to them.

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
"""Of the environment. The rest may hold secrets, as the address of the job database does."""
SERVER_MODULE = "gauntlet.sandbox.fork_server_main"
START_TIMEOUT = 120.0  # seconds that importing torch may take on a busy machine
EXIT_TIMEOUT = 1.0  # ... a killed child may take to end
POLL = 0.1  # ... between two looks whether an answer is still wanted
STOP_TIMEOUT = 10.0  # ... a child may take until it stops computing
MAX_OUTPUT = 2**16  # bytes of what a child printed that are kept
LOGGED_OUTPUT = 2000  # ... that reach the log
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
    """What a child may take, and whether there is none where this machine cannot confine it."""

    memory: int = 2 * 2**30  # bytes beyond what it has at its start
    threads: int = 0  # of one computation; 0: all cores
    require_confinement: bool = False


class Child:
    """A process that answers one question at a time, and is stopped in between.

    Safe to ask from several threads. Its files go with it.
    """

    def __init__(
        self,
        line: socket.socket,
        handle: int,
        folder: TemporaryDirectory[str],
        printed: IO[bytes],
        ended: Callable[[], int | None],
    ) -> None:
        """``printed`` holds what it prints; ``ended`` gives its wait status once it is gone, where that is known."""
        self._line, self._handle, self._folder, self._printed, self._ended = line, handle, folder, printed, ended
        self._lock, self._ending = threading.Lock(), threading.Lock()
        self._cause: str | None = None

    @property
    def alive(self) -> bool:
        """Whether its process still runs: one that ended while nobody asked it is noticed here."""
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
        """Its answer. Raises ModelFailed with the reason where it gives none; then it is gone.

        The arrays of an answer have at most ``most`` bytes: it cannot make who asks take more memory.
        ``check_cancelled`` is called while it computes. Where that raises, the child is told to stop, and stays.
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
                self._signal(signal.SIGSTOP)  # nobody asked it to compute anything more
                return answer
            raise ModelFailed(self._end(cause))

    def _signal(self, number: int) -> None:
        """Nothing where it is gone."""
        with self._ending, contextlib.suppress(ProcessLookupError):
            if self._cause is None:
                signal.pidfd_send_signal(self._handle, number)

    def _wait(self, deadline: float, check_cancelled: Callable[[], None], most: int) -> None:
        """Until it answers, or the deadline."""
        while not self._readable(deadline):
            try:
                check_cancelled()
            except BaseException:
                self._cancel(most)
                raise

    def _readable(self, deadline: float) -> bool:
        """Whether there is something to read, or no time left to wait for it. Raises OSError once it is closed."""
        left = deadline - time.monotonic()
        try:
            return left <= 0 or bool(select.select([self._line], [], [], min(POLL, left))[0])
        except ValueError as error:
            raise OSError(CLOSED) from error

    def _cancel(self, most: int) -> None:
        """Make it stop computing. Its answer, whatever it is, is of no use to anybody."""
        try:
            protocol.send(self._line, protocol.CANCEL)
            protocol.receive(self._line, time.monotonic() + STOP_TIMEOUT, most)
            self._signal(signal.SIGSTOP)
        except (OSError, EOFError, protocol.Garbled):
            self._end("it did not stop when it was told to")

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._end(CLOSED)

    def _end(self, cause: str | None) -> str:
        """Make sure that it is gone. Why it is: the cause that was first known, by default how its process ended."""
        with self._ending:
            if self._cause is None:
                if cause is None:  # who hangs up is about to end
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
    """In memory, and of a fixed length: what a child prints beyond is lost, and no disk fills."""
    handle = os.memfd_create("sandbox-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(handle, MAX_OUTPUT)
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return os.fdopen(handle, "rb")


def _remove(folder: TemporaryDirectory[str]) -> None:
    """With all that a child left in it: folders may lie in each other deeper than Python can follow."""
    with contextlib.suppress(OSError):
        subprocess.run(["/bin/rm", "-rf", folder.name], check=False, stderr=subprocess.DEVNULL)  # noqa: S603 - our name
    folder.cleanup()


def printed_end(file: IO[bytes]) -> str:
    """The end of what a child printed, on one line, escaped: it may be anything."""
    printed = os.pread(file.fileno(), MAX_OUTPUT, 0).rstrip(b"\0")
    return escaped(printed[-LOGGED_OUTPUT:].decode("utf-8", "replace").strip())


def exit_reason(status: int | None, printed: str) -> str:
    """What a wait status means, and what was printed, for whoever asked the process."""
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
    """Starts when it is first asked for a child. Its children end with it, and it ends with this process."""

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
        """What this machine lacks to confine a child; empty where it lacks nothing."""
        return "; ".join(f"without {lack}" for lack in self._missing)

    @property
    def pid(self) -> int | None:
        """Of the process, once it has been started."""
        return None if self._process is None else self._process.pid

    def child(self, work: Work, files: Sequence[IO[bytes]] = ()) -> Child:
        """A new one, for reading files (light) or for running models (torch).

        It gets the ``files`` open, as they are open here: none of them is ever whole in the memory of this process.

        Raises ModelFailed where none starts, Unconfined where none may.
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
        if self._line is None:
            self._start()
        assert self._line is not None
        threads = self._limits.threads or core_count.available()  # a child cannot read the limits of its group
        order = f"{work} {self._limits.memory} {threads} {folder}".encode()
        self._line.settimeout(START_TIMEOUT)
        socket.send_fds(self._line, [order], [one.fileno() for one in passed])
        pid, handles, _, _ = socket.recv_fds(self._line, 64, 1)
        if not handles:
            raise EOFError
        return int(pid), handles[0]

    def _ended(self, process: "subprocess.Popen[bytes] | None", pid: int) -> int | None:
        """The wait status of a child of that process; None where nobody knows it."""
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
            self._process = subprocess.Popen(  # noqa: S603 - every argument is ours
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
        """End it and all its children."""
        with self._lock:
            self._stop()
