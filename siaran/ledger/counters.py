"""Counters per campaign and device and per device and day, changed last in a transaction and in key order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import MessageStatus
from siaran.schedule import local_day

_COLUMNS = ("pending", "sent", "delivered", "read", "failed", "unknown", "suppressed", "cancelled")
_DAILY_COLUMNS = ("sent", "delivered", "read", "failed")

_DAILY: Mapping[MessageStatus, tuple[str, ...]] = {
    MessageStatus.SENT: ("sent",),
    MessageStatus.DELIVERED: ("sent", "delivered"),
    MessageStatus.READ: ("sent", "delivered", "read"),
    MessageStatus.FAILED: ("failed",),
    MessageStatus.UNKNOWN: ("failed",),
}
"""Where a message in a state counts on its day; in other states it counts nowhere."""


def _adding(table: str, key: tuple[str, ...], key_types: tuple[str, ...], columns: tuple[str, ...]) -> str:
    """An upsert that adds to counters; parameters are lists named after the columns."""
    arrays = [f"CAST(:{name} AS {kind}[])" for name, kind in zip(key, key_types, strict=True)]
    arrays += [f"CAST(:{name} AS int[])" for name in columns]
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in columns)
    return f"""
        INSERT INTO {table} ({", ".join([*key, *columns])}) SELECT * FROM unnest({", ".join(arrays)})
        ON CONFLICT ({key[0]}, {key[1]}) DO UPDATE SET {sums}
    """  # noqa: S608 -- the names are constants of this module


_CHANGE = text(_adding("campaign_counts", ("campaign_id", "device_id", "user_id"), ("bigint", "uuid", "uuid"), _COLUMNS))
_CHANGE_DAYS = text(_adding("message_analytics", ("device_id", "day", "user_id"), ("uuid", "date", "uuid"), _DAILY_COLUMNS))

# Held until the commit, so that nobody counts a user's days again between a change of the ledger and its count. It bars no
# other host, and is what every insert that refers to a user takes anyway.
_HOLD_USERS = text("SELECT 1 FROM users WHERE id = ANY(CAST(:users AS uuid[])) ORDER BY id FOR KEY SHARE")

# Read afterwards: who had to wait for the lock would be given the zone from before.
_ZONES = text("SELECT id, timezone FROM users WHERE id = ANY(CAST(:users AS uuid[]))")


@dataclass(frozen=True, slots=True)
class Change:
    """`count` messages of a campaign on a device went from one state to another; `before` is None for new rows.

    `before_at` and `after_at` are the instants on whose days the message counted and counts now: of a row that is
    `coalesce(sent_at, claimed_at, scheduled_at)`. Left out, it counts on no day.
    """

    campaign_id: int | None
    device_id: UUID
    user_id: UUID
    before: MessageStatus | None
    after: MessageStatus | None
    count: int = 1
    before_at: datetime | None = None
    after_at: datetime | None = None

    @classmethod
    def of(cls, row: Row[Any]) -> "Change":
        """The change of one message, from a row with `before`, `after` and their instants."""
        return cls(
            row.campaign_id,
            row.device_id,
            row.user_id,
            MessageStatus(row.before),
            MessageStatus(row.after),
            before_at=row.before_at,
            after_at=row.after_at,
        )


def _column(status: MessageStatus) -> str:
    return "pending" if status is MessageStatus.CLAIMED else status.value


async def change_counters(session: AsyncSession, changes: Iterable[Change]) -> None:
    """Add up the changes and write them, by campaign and by day; call it last, so that the hot rows are locked briefly.

    Changes that cancel each other out are passed over. Messages of no campaign count by day only.
    """
    changes = list(changes)
    await _change_campaigns(session, changes)
    await _change_days(session, changes)


async def _change_campaigns(session: AsyncSession, changes: Iterable[Change]) -> None:
    sums: dict[tuple[int, UUID, UUID], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COLUMNS, 0))
    for change in changes:
        if change.campaign_id is None:
            continue
        row = sums[change.campaign_id, change.device_id, change.user_id]
        if change.before is not None:
            row[_column(change.before)] -= change.count
        if change.after is not None:
            row[_column(change.after)] += change.count
    keys = sorted(key for key, row in sums.items() if any(row.values()))
    if not keys:
        return
    await session.execute(
        _CHANGE,
        {
            "campaign_id": [key[0] for key in keys],
            "device_id": [key[1] for key in keys],
            "user_id": [key[2] for key in keys],
            **{column: [sums[key][column] for key in keys] for column in _COLUMNS},
        },
    )


DayKey = tuple[UUID, date, UUID]
"""A device, a day on its owner's calendar, and the owner."""

DailyCounts = Mapping[DayKey, Mapping[str, int]]


async def _change_days(session: AsyncSession, changes: Iterable[Change]) -> None:
    """Count a message on the day it was sent, whenever it is delivered or read, and a failed one on the day it was tried.

    So what was received of a day's messages never exceeds what was sent on it.
    """
    counted = [
        (change.user_id, change.device_id, at, status, number)
        for change in changes
        for status, at, number in (
            (change.before, change.before_at, -change.count),
            (change.after, change.after_at, change.count),
        )
        if status is not None and status in _DAILY and at is not None
    ]
    if not counted:
        return
    users = {"users": sorted({user for user, *_ in counted})}
    await session.execute(_HOLD_USERS, users)
    rows = await session.execute(_ZONES, users)
    zones: dict[UUID, str] = {row.id: row.timezone for row in rows}
    sums: dict[DayKey, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_DAILY_COLUMNS, 0))
    for user, device, at, status, number in counted:
        row = sums[device, local_day(at, zones[user]), user]
        for column in _DAILY[status]:
            row[column] += number
    await _add_to_days(session, sums)


async def _add_to_days(session: AsyncSession, sums: DailyCounts) -> None:
    keys = sorted(key for key, row in sums.items() if any(row.values()))
    if not keys:
        return
    await session.execute(
        _CHANGE_DAYS,
        {
            "device_id": [key[0] for key in keys],
            "day": [key[1] for key in keys],
            "user_id": [key[2] for key in keys],
            **{column: [sums[key][column] for key in keys] for column in _DAILY_COLUMNS},
        },
    )


_LOCK_USER = text("SELECT timezone FROM users WHERE id = :user FOR UPDATE")

# By quarters of an hour, which no zone's midnight cuts: PostgreSQL and Python need not know the same zones.
_COUNT = text("""
    SELECT device_id, status, date_bin('15 minutes', coalesce(sent_at, claimed_at, scheduled_at), 'epoch') AS at,
        count(*) AS messages
    FROM broadcast_messages WHERE user_id = :user AND status = ANY(CAST(:statuses AS text[])) GROUP BY 1, 2, 3
""")

_FORGET = text("UPDATE message_analytics SET sent = 0, delivered = 0, read = 0, failed = 0 WHERE user_id = :user")


async def recount_days(session: AsyncSession, user_id: UUID) -> None:
    """Count all of a user's messages by day again, in the zone that is set now; what was replied stays as it is.

    For when the zone has changed, and to check what was counted as it happened. The user's hosts wait until the commit.
    """
    await session.flush()
    zone: str = (await session.execute(_LOCK_USER, {"user": user_id})).scalar_one()
    rows = await session.execute(_COUNT, {"user": user_id, "statuses": [status.value for status in _DAILY]})
    sums: dict[DayKey, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_DAILY_COLUMNS, 0))
    for row in rows:
        day = sums[row.device_id, local_day(row.at, zone), user_id]
        for column in _DAILY[MessageStatus(row.status)]:
            day[column] += row.messages
    await session.execute(_FORGET, {"user": user_id})
    await _add_to_days(session, sums)
