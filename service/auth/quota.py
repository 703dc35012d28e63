"""What one key may ask of the workers, counted in the job database: it holds for all processes together."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from service.errors import Code, ServiceError

TABLES = sa.MetaData()
USAGE = sa.Table(
    "gauntlet_usage",
    TABLES,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),  # UTC
    sa.Column("reports", sa.Integer, nullable=False),  # asked for on that day, deleted ones too
)
KEPT = timedelta(days=31)
FULL = 3600  # seconds after which to try again where only deleting helps
WAIT = 60  # seconds after which to try again where a report must begin


@dataclass(frozen=True)
class Owner:
    """Whose a report is, and how many there may be. 0: any number."""

    name: str
    reports_per_day: int = 0
    stored_reports: int = 0


@dataclass(frozen=True)
class Requester:
    """Among whom the workers are shared: a key, or where keys are not in use an address. 0: any number may wait."""

    name: str
    waiting_reports: int = 0


ANYBODY = Requester("address ")
"""Where nothing is known of who asks."""


def check_waiting(requester: Requester, waiting: int) -> None:
    """Raises ServiceError ``quota_exceeded`` where as many reports of this requester wait as may."""
    if requester.waiting_reports and waiting >= requester.waiting_reports:
        message = f"{waiting} reports of the {requester.name} wait, as many as may; wait for one to begin or cancel it"
        raise _exceeded(message, requester.waiting_reports, WAIT)


def reserve(connection: sa.Connection, owner: Owner, stored: int) -> None:
    """Count one more report of today. Raises ServiceError ``quota_exceeded`` where it is one too many.

    The transaction has waited for its turn (``service.sql.in_turn``); where it fails, nothing is counted.
    """
    if owner.stored_reports and stored >= owner.stored_reports:
        message = f"the key {owner.name} has {stored} reports and may have {owner.stored_reports}; delete some"
        raise _exceeded(message, owner.stored_reports, FULL)
    now = datetime.now(UTC)
    day = now.date().isoformat()
    ours = (USAGE.c.owner == owner.name) & (USAGE.c.day == day)
    connection.execute(
        sa.delete(USAGE).where(USAGE.c.owner == owner.name, USAGE.c.day < (now - KEPT).date().isoformat())
    )
    asked = connection.execute(sa.select(USAGE.c.reports).where(ours)).scalar_one_or_none()
    if owner.reports_per_day and (asked or 0) >= owner.reports_per_day:
        message = f"the key {owner.name} may ask for {owner.reports_per_day} reports a day, and has"
        raise _exceeded(message, owner.reports_per_day, _until_tomorrow(now))
    if asked is None:
        connection.execute(sa.insert(USAGE).values(owner=owner.name, day=day, reports=1))
    else:
        connection.execute(sa.update(USAGE).where(ours).values(reports=asked + 1))


def _until_tomorrow(now: datetime) -> int:
    tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return math.ceil((tomorrow - now).total_seconds())


def _exceeded(message: str, limit: int, wait: int) -> ServiceError:
    return ServiceError(Code.QUOTA_EXCEEDED, message, headers={"Retry-After": str(wait)}, limit=limit)
