"""Links that have ended here and that WhatsApp is still to be told of, by whoever holds the session."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Device, DeviceStatus, TransportKind

HOST_HAS_TIME = timedelta(seconds=15)
"""How long the host that held a device may take to notice, before a fleet logs it out."""

HOST_IS_AT_IT = timedelta(minutes=1)
"""How long a host that has noticed may take: a send may be under way."""

FIRST_PAUSE = timedelta(seconds=30)
GIVEN_UP_AFTER = timedelta(days=30)
"""WhatsApp itself removes a linked device that it has not seen for so long."""

_WANT = text("""
    INSERT INTO unlinkings (user_id, device_id, jid, link_generation, tries, try_at)
    SELECT user_id, id, :jid, CAST(:generation AS int), 0, now() + CAST(:pause AS interval) FROM user_devices
    WHERE id = :device AND NOT EXISTS (
        SELECT FROM unlinkings u WHERE u.device_id = :device AND u.link_generation = :generation AND u.done_at IS NULL
    )
""")

_OPEN = text("""
    UPDATE unlinkings SET try_at = greatest(try_at, now() + CAST(:time AS interval))
    WHERE device_id = :device AND link_generation = :generation AND done_at IS NULL
    RETURNING id
""")

_CLOSE = text("""
    UPDATE unlinkings u SET done_at = now(), error_code = :error FROM unlinkings closed
    WHERE closed.id = :id AND u.device_id = closed.device_id AND u.link_generation = closed.link_generation
        AND u.done_at IS NULL
""")

_NOTE = text("UPDATE unlinkings SET error_code = :error WHERE id = :id AND done_at IS NULL")

_CLAIM = text("""
    UPDATE unlinkings u SET tries = tries + 1, try_at = now() + CAST(:pause AS interval) * power(2, least(tries, 7))
    FROM (
        SELECT o.id FROM unlinkings o
        JOIN unnest(CAST(:devices AS uuid[]), CAST(:generations AS int[])) AS kept (device_id, generation)
            ON kept.device_id = o.device_id AND kept.generation = o.link_generation
        WHERE o.done_at IS NULL AND o.try_at <= now() ORDER BY o.try_at LIMIT :free
        FOR UPDATE OF o SKIP LOCKED
    ) due
    WHERE u.id = due.id
    RETURNING u.id, u.device_id, u.link_generation
""")

_ANY_DUE = text("SELECT EXISTS (SELECT FROM unlinkings WHERE done_at IS NULL AND try_at <= now())")

_GIVE_UP = text("""
    UPDATE unlinkings SET done_at = now(), error_code = coalesce(error_code, 'no_session')
    WHERE done_at IS NULL AND requested_at < now() - CAST(:age AS interval)
""")

_OUTDATED = text("""
    SELECT kept.device_id, kept.generation FROM user_devices d
    JOIN unnest(CAST(:devices AS uuid[]), CAST(:generations AS int[])) AS kept (device_id, generation)
        ON kept.device_id = d.id AND kept.generation <= d.link_generation
    WHERE NOT (kept.generation = d.link_generation AND d.jid IS NOT NULL AND d.deleted_at IS NULL AND d.status <> 'logged_out')
        AND NOT EXISTS (
            SELECT FROM unlinkings u
            WHERE u.device_id = d.id AND u.link_generation = kept.generation AND u.done_at IS NULL
        )
        AND NOT EXISTS (
            SELECT FROM pairings p WHERE p.device_id = d.id AND (
                p.status = 'running' AND kept.generation = d.link_generation
                OR p.ended_at > now() - interval '1 minute' AND p.server <> :server
            )
        )
""")


@dataclass(frozen=True, slots=True)
class Session:
    """A session file by what names it."""

    device_id: UUID
    link_generation: int


@dataclass(frozen=True, slots=True)
class DueUnlinking:
    """A link that a fleet is to end on WhatsApp's side now."""

    unlinking_id: int
    session: Session


async def want_unlinking(session: AsyncSession, device: Device) -> None:
    """Note that WhatsApp is to be told of the end of a device's link; call it before the row loses its `jid`."""
    if device.transport is TransportKind.WHATSAPP and device.jid is not None and device.status is not DeviceStatus.LOGGED_OUT:
        values = {"device": device.id, "jid": device.jid, "generation": device.link_generation, "pause": HOST_HAS_TIME}
        await session.execute(_WANT, values)


async def want_unlinking_of(session: AsyncSession, kept: Session, jid: str) -> None:
    """Note that WhatsApp is to be told of the end of a link that was made there but never here."""
    values = {"device": kept.device_id, "jid": jid, "generation": kept.link_generation, "pause": timedelta()}
    await session.execute(_WANT, values)


async def open_unlinking(session: AsyncSession, device_id: UUID, link_generation: int) -> int | None:
    """The id of the unlinking of a device's link that is still to be done, if there is one.

    For the host that holds the session and sees to it now: once this is committed, fleets leave it to that host for a minute.
    """
    values = {"device": device_id, "generation": link_generation, "time": HOST_IS_AT_IT}
    return (await session.execute(_OPEN, values)).scalars().first()


async def close_unlinking(session: AsyncSession, unlinking_id: int, error_code: str | None = None) -> None:
    """WhatsApp knows of the end of this link, or never will for the reason given."""
    await session.execute(_CLOSE, {"id": unlinking_id, "error": error_code})


async def note_failure(session: AsyncSession, unlinking_id: int, error_code: str) -> None:
    """WhatsApp could not be told this time; it is tried again later."""
    await session.execute(_NOTE, {"id": unlinking_id, "error": error_code})


async def are_any_due(session: AsyncSession) -> bool:
    """Whether it is worth looking which sessions there are."""
    return bool((await session.execute(_ANY_DUE)).scalar_one())


async def claim_unlinkings(session: AsyncSession, kept: Collection[Session], free: int) -> list[DueUnlinking]:
    """Take up to `free` unlinkings that are due and whose sessions are among these; each is due again after a growing pause."""
    values = {"pause": FIRST_PAUSE, "free": free, **_columns(kept)}
    rows = await session.execute(_CLAIM, values)
    return [DueUnlinking(row.id, Session(row.device_id, row.link_generation)) for row in rows]


async def give_up(session: AsyncSession) -> None:
    """Close what nobody could do for so long that WhatsApp has done it itself."""
    await session.execute(_GIVE_UP, {"age": GIVEN_UP_AFTER})


async def outdated_sessions(session: AsyncSession, kept: Collection[Session], server: str) -> list[Session]:
    """Which of these sessions belong to no link, no linking and no unlinking (any more).

    Sessions of devices that this database does not know, or of later generations than it knows, are none of its business.
    """
    rows = await session.execute(_OUTDATED, {"server": server, **_columns(kept)})
    return [Session(row.device_id, row.generation) for row in rows]


def _columns(kept: Collection[Session]) -> dict[str, list[UUID] | list[int]]:
    return {"devices": [one.device_id for one in kept], "generations": [one.link_generation for one in kept]}
