"""A process of the service that cannot start ends all of it: BentoML would try again for ever while clients hang."""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from gauntlet.errors import GauntletError
from service.observability.logs import LOGGER
from service.replace_file import replace_text
from service.settings import Settings

T = TypeVar("T")

PARENT = 60  # seconds in which the supervisor ends this process


def tell_failure(settings: Settings, error: Exception) -> None:
    """To the supervisor, which looks at any moment: the file is there whole or not at all.

    The log has what the file cannot hold: the traceback of what nobody foresaw, the reason where the disk is full.
    """
    reason = str(error) if isinstance(error, GauntletError) else repr(error)
    if not isinstance(error, GauntletError):
        LOGGER.error("an unforeseen exception ends the service", exc_info=error)
    try:
        replace_text(settings.failure_file, reason)
    except OSError as unwritable:
        LOGGER.error("the service ends: %s; and the reason cannot be saved: %s", reason, unwritable)
        with contextlib.suppress(OSError):
            settings.failure_file.touch()  # takes no block of a full disk


def or_end_service(settings: Settings, make: Callable[[], T]) -> T:
    """What ``make`` makes. Where it fails, the reason is left for the supervisor, which ends the service with it."""
    try:
        return make()
    except Exception as error:
        tell_failure(settings, error)
        time.sleep(PARENT)
        raise
