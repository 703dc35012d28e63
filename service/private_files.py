"""Files of the service are for the user alone who runs it: reports, uploads and the names of keys are in them."""

import contextlib
import os
import stat
from pathlib import Path

import sqlalchemy as sa

OTHERS = 0o077


def keep_private(state: Path, database_url: str) -> None:
    """Of what this process writes from now on, and those that it starts: the state folder, and SQLite's files.

    What belongs to somebody else who lets us use it stays as it is, and so does a folder for everybody's files (/tmp).
    """
    os.umask(OTHERS)
    for path in {state, *state.glob("*.sqlite*"), *_sqlite_files(database_url)}:
        _close(path)


def _sqlite_files(url: str) -> list[Path]:
    """The database and what SQLite keeps beside it: the write-ahead log and its index, the journal."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:  # whoever connects says what is wrong with it
        return []
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return []
    file = Path(parsed.database)
    return [file, *file.parent.glob(f"{file.name}-*")]


def _close(path: Path) -> None:
    """To all others."""
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & stat.S_ISVTX:
            path.chmod(mode & ~OTHERS)
