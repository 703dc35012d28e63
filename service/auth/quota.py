"""What one key may ask of the workers, counted in the job database: it holds for all processes together."""

import contextlib
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


@dataclass(frozen=True)
class Owner:
    """Whose a report is, and how many there may be. 0: any number."""

    name: str
    reports_per_day: int = 0
    stored_reports: int = 0


def reserve(engine: sa.Engine, owner: Owner, stored: int) -> str:
    """Count one more report, on the day returned. Raises ServiceError ``quota_exceeded`` where it is one too many."""
    if owner.stored_reports and stored >= owner.stored_reports:
        message = f"the key {owner.name} has {stored} reports and may have {owner.stored_reports}; delete some"
        raise _exceeded(message, owner.stored_reports, FULL)
    now = datetime.now(UTC)
    day = now.date().isoformat()
    ours = (USAGE.c.owner == owner.name) & (USAGE.c.day == day)
    with engine.begin() as connection:
        connection.execute(
            sa.delete(USAGE).where(USAGE.c.owner == owner.name, USAGE.c.day < (now - KEPT).date().isoformat())
        )
        if connection.execute(sa.select(USAGE.c.day).where(ours)).first() is None:
            _begin_day(connection, owner.name, day)
        free = sa.true() if owner.reports_per_day == 0 else USAGE.c.reports < owner.reports_per_day
        counted = connection.execute(sa.update(USAGE).where(ours & free).values(reports=USAGE.c.reports + 1))
    if counted.rowcount == 0:
        message = f"the key {owner.name} may ask for {owner.reports_per_day} reports a day, and has"
        raise _exceeded(message, owner.reports_per_day, _until_tomorrow(now))
    return day


def refund(engine: sa.Engine, owner: Owner, day: str) -> None:
    """Take back what was reserved for a report that could not be queued."""
    with engine.begin() as connection:
        ours = (USAGE.c.owner == owner.name) & (USAGE.c.day == day)
        connection.execute(sa.update(USAGE).where(ours).values(reports=USAGE.c.reports - 1))


def _begin_day(connection: sa.Connection, owner: str, day: str) -> None:
    with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():  # another process may be first
        connection.execute(sa.insert(USAGE).values(owner=owner, day=day, reports=0))


def _until_tomorrow(now: datetime) -> int:
    tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return math.ceil((tomorrow - now).total_seconds())


def _exceeded(message: str, limit: int, wait: int) -> ServiceError:
    return ServiceError(Code.QUOTA_EXCEEDED, message, headers={"Retry-After": str(wait)}, limit=limit)
