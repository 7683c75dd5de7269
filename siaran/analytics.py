"""Analytics: what a user's devices sent and what came of it, day by day on the user's calendar."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import Invalid
from siaran.models import Device, DeviceStatus, MessageAnalytics
from siaran.schedule import local_day, parse_date
from siaran.tenancy import get_owned, select_owned

RANGES = {"today": 1, "1": 1, "7": 7, "30": 30, "90": 90}
"""What can be asked for by name, and how many days that is, today included."""

LONGEST_RANGE = 731
"""Days of the longest range: two years, one of them a leap year."""


@dataclass(frozen=True, slots=True)
class DayRange:
    """Days on the user's calendar, both ends included."""

    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1))


@dataclass(frozen=True, slots=True)
class DayCounts:
    """Messages sent on a day, those of them received and read so far, replies that came in on it, and failures.

    Received and read count on the day on which their message was sent, so neither exceeds what was sent on it.
    """

    sent: int = 0
    received: int = 0
    read: int = 0
    replied: int = 0
    failed: int = 0

    def __add__(self, other: "DayCounts") -> "DayCounts":
        return DayCounts(*(getattr(self, name) + getattr(other, name) for name in _COUNTS))


_COUNTS = tuple(field.name for field in fields(DayCounts))
_COLUMNS = (
    MessageAnalytics.sent,
    MessageAnalytics.delivered,
    MessageAnalytics.read,
    MessageAnalytics.replied,
    MessageAnalytics.failed,
)


@dataclass(frozen=True, slots=True)
class Connected:
    """How many devices are connected at the moment, and how many are not."""

    active: int
    inactive: int


def named_range(name: str, zone: str, now: datetime) -> DayRange:
    """So many days that end today in the user's zone; raises `Invalid` for the field `days`."""
    days = RANGES.get(name.strip().lower())
    if days is None:
        raise Invalid.field("days", "must be today, 7, 30 or 90")
    today = local_day(now, zone)
    return DayRange(today - timedelta(days=days - 1), today)


def parse_range(start: str, end: str) -> DayRange:
    """From one date (`YYYY-MM-DD`) to another; raises `Invalid` for the fields `start` and `end`."""
    days = DayRange(parse_date(start, "start"), parse_date(end, "end"))
    if days.first > days.last:
        raise Invalid.field("start", "must not be later than end")
    if (days.last - days.first).days >= LONGEST_RANGE:
        raise Invalid.field("end", f"must be at most {LONGEST_RANGE - 1} days after start")
    return days


async def check_device(session: AsyncSession, user_id: UUID, device_id: UUID | None) -> None:
    """Raise `NotFound` for somebody else's device; a deleted one has kept its history."""
    if device_id is not None:
        await get_owned(session, Device, user_id, Device.id == device_id)


async def count_days(
    session: AsyncSession, user_id: UUID, days: DayRange, device_id: UUID | None = None
) -> dict[date, DayCounts]:
    """Every day of the range in order, over all of a user's devices, deleted ones included, or of one."""
    query = (
        select_owned(MessageAnalytics, user_id)
        .where(MessageAnalytics.day.between(days.first, days.last))
        .with_only_columns(MessageAnalytics.day, *(func.sum(column) for column in _COLUMNS))
        .group_by(MessageAnalytics.day)
    )
    if device_id is not None:
        query = query.where(MessageAnalytics.device_id == device_id)
    found = {row[0]: DayCounts(*list(row)[1:]) for row in (await session.execute(query)).all()}
    return {day: found.get(day, DayCounts()) for day in days}


async def count_connected(session: AsyncSession, user_id: UUID, device_id: UUID | None = None) -> Connected:
    """A user's devices, deleted ones apart, or one of them."""
    query = (
        select_owned(Device, user_id)
        .where(Device.deleted_at.is_(None))
        .with_only_columns(func.count().filter(Device.status == DeviceStatus.ONLINE), func.count())
    )
    if device_id is not None:
        query = query.where(Device.id == device_id)
    active, total = (await session.execute(query)).one()
    return Connected(active, total - active)


async def count_by_device(
    session: AsyncSession,
    user_id: UUID,
    days: DayRange,
    device_id: UUID | None = None,
) -> Sequence[tuple[date, UUID, str, DayCounts]]:
    """The days on which something happened, device by device with its id and name, in order of day and name."""
    query = (
        select(MessageAnalytics.day, Device.id, Device.device_name, *_COLUMNS)
        .join(Device, (Device.id == MessageAnalytics.device_id) & (Device.user_id == user_id))
        .where(MessageAnalytics.user_id == user_id, MessageAnalytics.day.between(days.first, days.last))
        .order_by(MessageAnalytics.day, Device.device_name, Device.id)
    )
    if device_id is not None:
        query = query.where(MessageAnalytics.device_id == device_id)
    rows = (await session.execute(query)).all()
    return [(day, device, name, DayCounts(*counts)) for day, device, name, *counts in rows]
