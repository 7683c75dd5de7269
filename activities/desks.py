"""Desks: what a host knows of each of its devices while it sends, rebuilt from the ledger when it gets the device."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.pacing import DAY, Caps, SendWindow

_DEVICE = text("""
    SELECT d.max_per_minute, d.max_per_hour, d.max_per_day, l.last_source, l.next_send_at
    FROM user_devices d JOIN lanes l ON l.device_id = d.id
    WHERE d.id = :device AND d.user_id = :user AND d.host_id = :host AND d.deleted_at IS NULL
""")

_ATTEMPTS = text("""
    SELECT attempted_at FROM message_attempts
    WHERE device_id = :device AND user_id = :user AND attempted_at > :since AND outcome <> 'not_attempted'
    ORDER BY attempted_at
""")


@dataclass(slots=True)
class Desk:
    """One device at a host: its caps and when it attempted to send, its next turn, and whether an old claim is still open."""

    device_id: UUID
    user_id: UUID
    caps: Caps
    window: SendWindow
    after_source: str
    next_at: datetime
    is_settled: bool = False
    mean_gap_seconds: float | None = None

    def ready_at(self, now: datetime) -> datetime:
        """The earliest instant at which the gap is over and no cap is exceeded."""
        return max(self.next_at, self.window.free_at(self.caps, now))

    def is_capped(self, now: datetime, longer_than: timedelta) -> bool:
        """Whether a cap, not the gap, holds the device back for longer than that."""
        return self.window.free_at(self.caps, now) > max(self.next_at, now + longer_than)


async def open_desk(session: AsyncSession, host_id: int, user_id: UUID, device_id: UUID, now: datetime) -> Desk | None:
    """Read a device's caps, its attempts of the last day and the end of its last gap; None when it is not this host's."""
    row = (await session.execute(_DEVICE, {"device": device_id, "user": user_id, "host": host_id})).one_or_none()
    if row is None:
        return None
    attempts = await session.execute(_ATTEMPTS, {"device": device_id, "user": user_id, "since": now - DAY})
    return Desk(
        device_id,
        user_id,
        Caps(row.max_per_minute, row.max_per_hour, row.max_per_day),
        SendWindow(attempts.scalars()),
        row.last_source,
        row.next_send_at or now,
    )
