"""Desks: what a host knows of each of its devices while it sends, rebuilt from the ledger when it gets the device."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.pacing import DAY, Caps, SendWindow
from siaran.warm_up import daily_cap

UNNOTICED = timedelta(milliseconds=100)
"""A claim is made a moment before the gap before it is over: an attempt that began so little earlier came after that gap."""

_DEVICE = text("""
    SELECT d.max_per_minute, d.max_per_hour, d.max_per_day, d.warm_up_started_at, d.warm_up_first_day, d.warm_up_daily_step,
        l.last_source, l.next_send_at, last.attempted_at, last.min_delay, last.max_delay
    FROM user_devices d
    JOIN lanes l ON l.device_id = d.id
    LEFT JOIN LATERAL (
        SELECT a.attempted_at,
            coalesce(c.min_delay_seconds, st.min_delay_seconds, q.min_delay_seconds, d.min_delay_seconds) AS min_delay,
            coalesce(c.max_delay_seconds, st.max_delay_seconds, q.max_delay_seconds, d.max_delay_seconds) AS max_delay
        FROM message_attempts a
        JOIN broadcast_messages m ON m.id = a.message_id
        LEFT JOIN campaigns c ON c.id = m.campaign_id
        LEFT JOIN sequences q ON q.id = m.sequence_id
        LEFT JOIN sequence_steps st ON st.id = m.step_id
        WHERE a.device_id = d.id AND a.user_id = d.user_id AND a.outcome <> 'not_attempted'
        ORDER BY a.attempted_at DESC LIMIT 1
    ) last ON true
    WHERE d.id = :device AND d.user_id = :user AND d.host_id = :host AND d.deleted_at IS NULL
""")

_ATTEMPTS = text("""
    SELECT attempted_at FROM message_attempts
    WHERE device_id = :device AND user_id = :user AND attempted_at > :since AND outcome <> 'not_attempted'
    ORDER BY attempted_at
""")


@dataclass(slots=True)
class Desk:
    """One device at a host: its caps and when it attempted to send, its next turn, and whether an old claim is still open.

    `recorded_next_at` is the end of the last gap that was recorded, which `next_at` exceeds when a later attempt left none.
    """

    device_id: UUID
    user_id: UUID
    caps: Caps
    window: SendWindow
    after_source: str
    next_at: datetime
    recorded_next_at: datetime
    is_settled: bool = False
    mean_gap_seconds: float | None = None

    def ready_at(self, now: datetime) -> datetime:
        """The earliest instant at which the gap is over and no cap is exceeded."""
        return max(self.next_at, self.window.free_at(self.caps, now))

    def is_capped(self, now: datetime, longer_than: timedelta) -> bool:
        """Whether a cap, not the gap, holds the device back for longer than that."""
        return self.window.free_at(self.caps, now) > max(self.next_at, now + longer_than)


async def open_desk(session: AsyncSession, host_id: int, user_id: UUID, device_id: UUID, now: datetime) -> Desk | None:
    """Read a device's caps, its attempts of the last day and the end of its last gap; None when it is not this host's.

    The gap after an attempt is drawn and recorded by whoever makes it. One that was killed in between left none behind: the
    longest that it could have drawn counts.
    """
    row = (await session.execute(_DEVICE, {"device": device_id, "user": user_id, "host": host_id})).one_or_none()
    if row is None:
        return None
    attempts = await session.execute(_ATTEMPTS, {"device": device_id, "user": user_id, "since": now - DAY})
    per_day = daily_cap(row.max_per_day, row.warm_up_started_at, row.warm_up_first_day, row.warm_up_daily_step, now)
    recorded_next_at = row.next_send_at or now
    return Desk(
        device_id,
        user_id,
        Caps(row.max_per_minute, row.max_per_hour, per_day),
        SendWindow(attempts.scalars()),
        row.last_source,
        next_at=max(recorded_next_at, _end_of_unrecorded_gap(row) or recorded_next_at),
        recorded_next_at=recorded_next_at,
    )


def _end_of_unrecorded_gap(row: Row[Any]) -> datetime | None:
    """When the gap after the newest attempt is over at the latest; None if that gap was recorded, or there is no attempt."""
    if row.attempted_at is None:
        return None
    earliest: datetime = row.attempted_at + max(timedelta(seconds=row.min_delay), UNNOTICED)
    if row.next_send_at is not None and row.next_send_at >= earliest:
        return None
    latest: datetime = row.attempted_at + timedelta(seconds=row.max_delay)
    return latest
