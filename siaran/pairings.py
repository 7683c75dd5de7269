"""The rows of linkings of real accounts: wanted by the API, claimed by a fleet, ended by the linking process or that fleet."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Executable, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import TooManyRequests
from siaran.models import Device, Pairing, PairingMethod, PairingStatus
from siaran.tenancy import select_owned, update_owned

OPEN = (PairingStatus.WANTED, PairingStatus.RUNNING)
INTERRUPTED = ("interrupted", "the process that was linking it ended early; try again")
UNCLAIMED_AFTER = timedelta(minutes=2)
"""When a linking that no fleet has taken is over; its caller was told long before."""

FOREIGN_MARGIN = timedelta(minutes=1)
"""How long after its time the linking of another server is left to that server's fleet."""

MOST_AT_ONCE = 5
"""Linkings that one user may have under way: each takes a process that others may be waiting for."""

SCANNED_TIME = timedelta(seconds=60)
"""How long a linking may still take once the phone has agreed to it."""

# Only rows that nobody holds are taken, of the device too, so that a claim never waits and never deadlocks with a request.
_CLAIM = text("""
    WITH claimed AS MATERIALIZED (
        SELECT p.id, p.device_id FROM pairings p JOIN user_devices d ON d.id = p.device_id
        WHERE p.status = 'wanted' ORDER BY p.created_at LIMIT :free
        FOR UPDATE OF p, d SKIP LOCKED
    ), numbered AS (
        UPDATE user_devices d SET link_generation = d.link_generation + 1, updated_at = now()
        FROM claimed WHERE d.id = claimed.device_id RETURNING d.id, d.link_generation
    )
    UPDATE pairings p SET status = 'running', server = :server, expires_at = now() + CAST(:lasts AS interval)
    FROM numbered WHERE p.id = (SELECT id FROM claimed WHERE device_id = numbered.id)
    RETURNING p.id, p.device_id, numbered.link_generation
""")

_EXPIRE = text("""
    UPDATE pairings SET status = 'expired', ended_at = now()
    WHERE status IN ('wanted', 'running') AND (
        status = 'running' AND expires_at < now() - CASE WHEN server = :server THEN interval '0' ELSE :margin END
        OR status = 'wanted' AND created_at < now() - CAST(:unclaimed AS interval)
    )
""")

_FAIL = text("""
    UPDATE pairings SET status = 'failed', ended_at = now(), error_code = :code, error_message = :message
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'running'
""")

_ENDED = text("SELECT id, status, ended_at < now() - CAST(:overdue AS interval) AS overdue FROM pairings "
              "WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NOT NULL")  # fmt: skip

_LEFT_BEHIND = text("SELECT id, pid FROM pairings WHERE server = :server AND status = 'running'")

_NOTE_SCAN = text("""
    UPDATE pairings SET expires_at = greatest(expires_at, now() + CAST(:time AS interval))
    WHERE id = :id AND status = 'running' AND server = :server RETURNING id
""")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A linking that a fleet has taken, with its device and the link generation that is this linking's own."""

    pairing_id: UUID
    device_id: UUID
    link_generation: int


async def open_pairing(session: AsyncSession, user_id: UUID, device_id: UUID) -> Pairing | None:
    """The linking of a device that is under way, if there is one."""
    query = select_owned(Pairing, user_id).where(Pairing.device_id == device_id, Pairing.status.in_(OPEN))
    return (await session.execute(query)).scalar_one_or_none()


async def newest_pairing(session: AsyncSession, user_id: UUID, device_id: UUID) -> Pairing | None:
    """The linking of a device that was begun last, over or not."""
    query = select_owned(Pairing, user_id).where(Pairing.device_id == device_id)
    return (await session.execute(query.order_by(Pairing.created_at.desc(), Pairing.id).limit(1))).scalar_one_or_none()


async def find_pairing(session: AsyncSession, user_id: UUID, pairing_id: UUID) -> Pairing | None:
    """A user's linking as it stands now."""
    query = select_owned(Pairing, user_id).where(Pairing.id == pairing_id)
    return (await session.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()


async def want_pairing(
    session: AsyncSession, device: Device, method: PairingMethod, phone: str, *, now: datetime, lasts: timedelta
) -> Pairing:
    """The linking of a device (its row locked) that is under way in this very way, or a new one in place of any other.

    `phone` is digits in international form, empty for a QR code. Raises `TooManyRequests`.
    """
    under_way = await open_pairing(session, device.user_id, device.id)
    if under_way is not None:
        if (under_way.method, under_way.phone) == (method, phone) and under_way.expires_at > now:
            return under_way
        await cancel_pairing(session, device.user_id, device.id, now)
    query = select(func.count()).where(Pairing.user_id == device.user_id, Pairing.status.in_(OPEN), Pairing.expires_at > now)
    if (await session.execute(query)).scalar_one() >= MOST_AT_ONCE:
        raise TooManyRequests(
            30, f"{MOST_AT_ONCE} of your devices are being linked at the moment; end one of these linkings first"
        )
    wanted = Pairing(user_id=device.user_id, device_id=device.id, method=method, phone=phone, expires_at=now + lasts)
    session.add(wanted)
    await session.flush()
    return wanted


async def cancel_pairing(session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime) -> bool:
    """End the linking of a device that is under way; returns whether there was one. Its fleet then ends its process."""
    query = update_owned(Pairing, user_id).where(Pairing.device_id == device_id, Pairing.status.in_(OPEN))
    return await _count(session, query.values(status=PairingStatus.CANCELLED, ended_at=now)) > 0


async def fail_unclaimed(session: AsyncSession, user_id: UUID, pairing_id: UUID, now: datetime, message: str) -> bool:
    """End a linking that no fleet has taken; returns whether that is so."""
    query = update_owned(Pairing, user_id).where(Pairing.id == pairing_id, Pairing.status == PairingStatus.WANTED)
    values = {"status": PairingStatus.FAILED, "ended_at": now, "error_code": "no_fleet", "error_message": message}
    return await _count(session, query.values(**values)) > 0


async def claim_pairings(session: AsyncSession, server: str, free: int, lasts: timedelta) -> list[Claimed]:
    """Take up to `free` wanted linkings for a server, oldest first; each uses up a link generation, linked or not."""
    rows = await session.execute(_CLAIM, {"server": server, "free": free, "lasts": lasts})
    return [Claimed(row.id, row.device_id, row.link_generation) for row in rows]


async def expire_pairings(session: AsyncSession, server: str) -> None:
    """End the linkings whose time is over: this server's, those of servers that are gone, and those that nobody took."""
    values = {"server": server, "margin": FOREIGN_MARGIN, "unclaimed": UNCLAIMED_AFTER}
    await session.execute(_EXPIRE, values)


async def fail_pairings(session: AsyncSession, pairing_ids: Collection[UUID], code: str, message: str) -> int:
    """End linkings that are still running, as failed; returns how many were."""
    return await _count(session, _FAIL, ids=list(pairing_ids), code=code, message=message)


async def ended_pairings(session: AsyncSession, pairing_ids: Collection[UUID], overdue: timedelta) -> dict[UUID, bool]:
    """Which of these linkings must have no process (any more): those cancelled or expired, and others that ended long ago.

    The value says whether its process is to be killed now.
    """
    rows = await session.execute(_ENDED, {"ids": list(pairing_ids), "overdue": overdue})
    return {row.id: row.overdue or row.status in {"cancelled", "expired"} for row in rows}


async def left_behind(session: AsyncSession, server: str) -> Sequence[tuple[UUID, int | None]]:
    """The linkings of a server that are running, with their pids."""
    return [(row.id, row.pid) for row in await session.execute(_LEFT_BEHIND, {"server": server})]


async def note_scan(session: AsyncSession, pairing_id: UUID, server: str) -> bool:
    """The phone has agreed: give a running linking of this server time to end well; returns whether it is still running."""
    values = {"id": pairing_id, "server": server, "time": SCANNED_TIME}
    return (await session.execute(_NOTE_SCAN, values)).first() is not None


async def _count(session: AsyncSession, statement: Executable, **values: Any) -> int:
    result = await session.execute(statement, values or None)
    assert isinstance(result, CursorResult)  # noqa: S101 -- of every UPDATE; tells mypy that it has a count
    return int(result.rowcount)
