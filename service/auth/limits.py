"""How much one requester may ask: what its key says, else what the settings say, else for a key these defaults."""

from collections.abc import Mapping
from typing import Literal

from service.request_context import Caller
from service.settings import Settings

Limit = Literal["requests_per_minute", "requests_at_once", "waiting_reports", "reports_per_day", "stored_reports"]

OF_A_KEY: Mapping[Limit, int] = {
    "requests_per_minute": 6000,
    "requests_at_once": 64,
    "waiting_reports": 20,
    "reports_per_day": 200,
    "stored_reports": 1000,
}


def limit(name: Limit, caller: Caller | None, settings: Settings) -> int:
    """0: no limit, which is the default of an address."""
    of_key: int | None = None if caller is None else getattr(caller, name)
    of_all: int | None = getattr(settings, name)
    if of_key is not None:
        return of_key
    if of_all is not None:
        return of_all
    return 0 if caller is None else OF_A_KEY[name]
