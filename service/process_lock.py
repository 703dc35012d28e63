"""Files whose lock says that a process lives: the system lets go of it, however the process ends."""

import fcntl
import os
from pathlib import Path


class ProcessLock:
    """One file. Any number of processes may ``share`` it, or one may hold it ``alone``."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def share(self) -> None:
        """Hold it together with others, until ``release`` or the end of this process."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def hold(self) -> None:
        """Hold it alone, until ``release`` or the end of this process."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def take_if_free(self) -> bool:
        """Hold it alone if nobody else holds or shares it."""
        return self._try(fcntl.LOCK_EX)

    def held(self) -> bool:
        """Whether somebody else holds it alone."""
        if not self._try(fcntl.LOCK_SH):
            return True
        self.release()
        return False

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class ServiceLocks:
    """The locks of one running service, beside the socket of its compute process."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.api = ProcessLock(socket.with_name("api.lock"))  # shared by every API process while it lives
        self.listening = ProcessLock(socket.with_name("listening.lock"))  # ... while it listens
        self.compute = ProcessLock(socket.with_name("compute.lock"))  # held by the compute process while it answers
