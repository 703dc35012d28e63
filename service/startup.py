"""A process of the service that cannot start ends all of it: BentoML would try again for ever while clients hang."""

import time
from collections.abc import Callable
from typing import TypeVar

from gauntlet.errors import GauntletError
from service.replace_file import replace_text
from service.settings import Settings

T = TypeVar("T")

PARENT = 60  # seconds in which the supervisor ends this process


def tell_failure(settings: Settings, reason: str) -> None:
    """To the supervisor, which looks at any moment: the file is there whole or not at all."""
    replace_text(settings.failure_file, reason)


def or_end_service(settings: Settings, make: Callable[[], T]) -> T:
    """What ``make`` makes. Where it fails, the reason is left for the supervisor, which ends the service with it."""
    try:
        return make()
    except Exception as error:
        tell_failure(settings, str(error) if isinstance(error, GauntletError) else repr(error))
        time.sleep(PARENT)
        raise
