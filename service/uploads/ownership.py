"""Whose an upload is, who may see and use it, and who may delete it.

An upload belongs to the key that made it, by the key's name, and is for that key alone unless it was shared: then
every key may see and use it. Only its own key deletes it. Keys with the scope admin see, use and delete all; so does
everybody where keys are not in use. The call under way says whose key asks (``service.request_context``); outside of
calls, as in a worker, all is seen.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from service.auth.admission import visible_owner
from service.request_context import CALL


@dataclass(frozen=True)
class Ownership:
    """Of one upload. What is nobody's is shared."""

    owner: str | None  # the name of a key
    shared: bool


OPERATORS = Ownership(None, shared=True)
"""Of what came without a key."""


def of_this_call(*, shared: bool) -> Ownership:
    """Of what the call under way uploads."""
    caller = CALL.get().caller
    return OPERATORS if caller is None else Ownership(caller.name, shared)


def visible(uploads: sa.Table) -> sa.ColumnElement[bool]:
    """What the call under way may see and use."""
    return uploads.c.shared | removable(uploads)


def removable(uploads: sa.Table) -> sa.ColumnElement[bool]:
    """What the call under way may delete. Never NULL: it can be negated."""
    whose = visible_owner(CALL.get())
    return sa.true() if whose is None else uploads.c.owner.is_not_distinct_from(whose)
