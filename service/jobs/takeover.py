"""When a worker's work may be taken over: at once if this machine knows that it has ended, else after a silence."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.settings import SettingsError

SILENT = 30.0  # seconds without a new sign of life after which a worker counts as dead
GAP = 5.0  # seconds between two looks after which this worker cannot tell who was silent: itself or the others
PATIENCE = 3.0  # seconds in which a predecessor of the same name may let go


class SilenceDetector:
    """Who has shown no new sign of life for how long, as one onlooker saw it.

    Signs are compared with each other, never with a clock, so hosts need not agree on the time. Somebody who was away,
    as everybody is while the database is, has seen nobody be silent.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._looked = 0.0

    def silent(self, signs: Mapping[str, int | None], now: float) -> list[str]:
        """Those whose sign has stayed the same for ``SILENT`` seconds; None is a sign like any other."""
        known = self._seen if now - self._looked < GAP else {}
        self._looked = now
        fresh = {name: (sign, now) for name, sign in signs.items()}
        self._seen = {
            name: known[name] if name in known and known[name][0] == sign else fresh[name]
            for name, sign in signs.items()
        }
        return [name for name, (_, since) in self._seen.items() if now - since >= SILENT]


def _path(state: Path, executor: str) -> Path:
    return state / f"worker-{executor}.lock"


@contextlib.contextmanager
def hold_name(state: Path, executor: str) -> Iterator[None]:
    """Hold the name in the state folder, so that others there know when its worker ends, however it does.

    Raises SettingsError where another has it: each would take the other's running work for a dead one's.
    """
    deadline = time.monotonic() + PATIENCE
    path = _path(state, executor)
    while True:
        with path.open("w") as file:
            if _locked(file.fileno()) and _still_there(path, file.fileno()):
                yield
                path.unlink(missing_ok=True)
                return
        if time.monotonic() > deadline:
            raise SettingsError(f"GAUNTLET_STATE={state}: a worker named {executor} uses it already")
        time.sleep(0.1)


def has_ended(state: Path, executor: str) -> bool:
    """Whether a worker with this state folder is known to have ended."""
    try:
        with _path(state, executor).open("r+") as file:
            return _locked(file.fileno())
    except FileNotFoundError:
        return False


def remove_stale_locks(state: Path) -> None:
    """Remove what ended workers have left in the state folder."""
    for path in state.glob("worker-*.lock"):
        with contextlib.suppress(FileNotFoundError), path.open("r+") as file:
            if _locked(file.fileno()):
                path.unlink(missing_ok=True)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _still_there(path: Path, descriptor: int) -> bool:
    """Whether the file is still there: somebody tidying may have removed it between opening and locking."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
