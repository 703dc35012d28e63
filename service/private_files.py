"""Files of the service are for the user alone who runs it: reports, uploads and the names of keys are in them."""

import contextlib
import os
from pathlib import Path

OTHERS = 0o077


def keep_private(state: Path) -> None:
    """Of what this process writes from now on, and those that it starts; and of the databases in the state folder."""
    os.umask(OTHERS)
    for database in state.glob("*.sqlite*"):
        with contextlib.suppress(OSError):  # somebody else's, who lets us use it
            database.chmod(0o600)
