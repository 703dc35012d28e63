"""The asking side: a nursery (gauntlet.sandbox.birth) that bears children, and what one says to a child.

A fork of a process that has imported torch but computed nothing is ready in milliseconds; an import takes seconds.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from gauntlet.errors import ModelFailed
from gauntlet.sandbox import wire
from gauntlet.sandbox.wire import Array, Message

Work = Literal["files", "models"]

ROOT = Path(__file__).resolve().parents[2]
INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS")
"""Of the environment. The rest may hold secrets, as the address of the job database does."""
BIRTHPLACE = "gauntlet.sandbox.birth"
BIRTH = 120.0  # seconds that importing torch may take on a busy machine
DYING = 1.0  # ... a killed child may take to be gone


@dataclass(frozen=True)
class Limits:
    """What a child may take."""

    memory: int = 2 * 2**30  # bytes beyond what it is born with
    threads: int = 0  # of one computation; 0: all cores


class Child:
    """A process that answers one question at a time. Safe to ask from several threads. Its files go with it."""

    def __init__(self, line: socket.socket, handle: int, folder: TemporaryDirectory[str]) -> None:
        self._line, self._handle, self._folder = line, handle, folder
        self._lock = threading.Lock()
        self._cause: str | None = None

    @property
    def alive(self) -> bool:
        return self._cause is None

    def ask(self, message: Message, *arrays: Array, seconds: float) -> tuple[Message, list[Array]]:
        """Its answer. Raises ModelFailed with the reason where it gives none; then it is gone."""
        with self._lock:
            if self._cause is not None:
                raise ModelFailed(self._cause)
            deadline = time.monotonic() + seconds
            try:
                self._line.settimeout(seconds)
                wire.send(self._line, message | {"seconds": seconds}, *arrays)
                return wire.receive(self._line, deadline)
            except TimeoutError:
                cause = f"it took longer than {seconds:g} s and was stopped"
            except (EOFError, OSError):
                cause = "it died: it needs more memory or time than it may have, or it crashes"
            except wire.Garbled as error:
                cause = f"it does not keep to the protocol ({error})"
            self._end(cause)
            raise ModelFailed(cause)

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._end("it was closed")

    def _end(self, cause: str) -> None:
        if self._cause is None:
            self._cause = cause
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            select.select([self._handle], [], [], DYING)
            os.close(self._handle)
            self._line.close()
            self._folder.cleanup()


class Nursery:
    """Starts when it is first asked for a child. Its children end with it, and it ends with this process."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, once it has been started."""
        return None if self._process is None else self._process.pid

    def child(self, work: Work) -> Child:
        """A new one, for reading files (light) or for running models (torch). Raises ModelFailed where none is born."""
        ours, theirs = socket.socketpair()
        folder = TemporaryDirectory(prefix="gauntlet-", ignore_cleanup_errors=True)
        with theirs, self._lock:
            for _ in range(2):  # a nursery that has died is replaced
                try:
                    handle = self._order(work, theirs, folder.name)
                    return Child(ours, handle, folder)
                except (OSError, EOFError):
                    self._stop()
        ours.close()
        folder.cleanup()
        raise ModelFailed("no process could be started for it")

    def _order(self, work: Work, theirs: socket.socket, folder: str) -> int:
        if self._line is None:
            self._start()
        assert self._line is not None
        order = f"{work} {self._limits.memory} {self._limits.threads} {folder}".encode()
        self._line.settimeout(BIRTH)
        socket.send_fds(self._line, [order], [theirs.fileno()])
        _, handles, _, _ = socket.recv_fds(self._line, 64, 1)
        if not handles:
            raise EOFError
        return handles[0]

    def _start(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - no word in it but ours
                [sys.executable, "-m", BIRTHPLACE, str(theirs.fileno())],
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
