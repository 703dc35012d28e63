"""The call that is being answered: who makes it, and how it is known. The request gate sets it; ``CALL`` finds it.

A call that the compute process answers for the API process carries the same identity, in headers of our own
(``internal_headers``, ``identity``). Only the Unix socket between the two is trusted with them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from starlette.datastructures import Headers

NO_REQUEST = "none"
"""The id of what is logged outside of any request."""

REQUEST_ID = "x-request-id"
CALLER = "x-gauntlet-caller"


class Scope(StrEnum):
    """What a key may do; each includes those before it."""

    READ = "read"
    ATTACK = "attack"
    UPLOAD = "upload"
    ADMIN = "admin"

    def includes(self, other: "Scope") -> bool:
        ladder = list(Scope)
        return ladder.index(self) >= ladder.index(other)


@dataclass(frozen=True)
class Caller:
    """Whose key a call was made with. A limit of None is that of the settings; 0: no limit."""

    name: str
    scope: Scope
    requests_per_minute: int | None = None
    reports_per_day: int | None = None
    stored_reports: int | None = None


@dataclass
class Notes:
    """What is found out while a call is answered, for the request gate to act upon."""

    error_is_ours: bool = False  # the body of the error under way is the envelope already
    metrics_label: str | None = None  # of the route, where its template does not tell work of another kind
    audit: Scope | None = None  # the call is written to the audit, as one that needed this scope


async def never() -> None:
    """Does not return."""
    await asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class Call:
    """What is known of one call."""

    request_id: str = NO_REQUEST
    method: str = ""
    route: str = ""  # its template, as /models/{name}
    target: str = ""  # path and query, as they were sent
    client: str = ""  # address
    headers: Headers = field(default_factory=Headers)
    caller: Caller | None = None  # None: keys are not in use, or none was asked for
    anonymous: bool = False  # keys are in use, and none was asked for
    inference_protocol: bool = False  # errors have the shape of the Open Inference Protocol
    disconnected: Callable[[], Awaitable[None]] = never  # returns once the client has hung up
    body: Callable[[], bytes] = bytes  # as it was received
    notes: Notes = field(default_factory=Notes)


CALL: ContextVar[Call] = ContextVar("CALL", default=Call())  # noqa: B039  every request sets its own


def internal_headers(call: Call) -> dict[str, str]:
    """The identity of a call, for the compute process."""
    caller = {} if call.caller is None else {CALLER: json.dumps(asdict(call.caller))}
    return {REQUEST_ID: call.request_id, **caller}


def identity(headers: Mapping[str, str]) -> tuple[str, Caller | None]:
    """What ``internal_headers`` said: the id of the request, and whose key it was made with."""
    caller = json.loads(headers[CALLER]) if CALLER in headers else None
    if caller is not None:
        caller = Caller(**{**caller, "scope": Scope(caller["scope"])})
    return headers.get(REQUEST_ID, NO_REQUEST), caller
