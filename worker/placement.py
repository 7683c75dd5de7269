"""Placement: which devices wait for a host, and giving them to one."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import TransportKind

_WAITING = text("""
    SELECT id, link_generation FROM user_devices
    WHERE host_id IS NULL AND jid IS NOT NULL AND transport = :transport AND is_active AND deleted_at IS NULL
        AND status NOT IN ('banned', 'logged_out')
    ORDER BY user_id, id
""")

# A device that has never been online counts as away from now on: until it has had time to connect, its messages stay.
_PLACE = text("""
    WITH placed AS MATERIALIZED (
        SELECT id FROM user_devices
        WHERE host_id IS NULL AND jid IS NOT NULL AND transport = :transport AND is_active AND deleted_at IS NULL
            AND status NOT IN ('banned', 'logged_out') AND id = ANY(CAST(:devices AS uuid[]))
        ORDER BY user_id, id LIMIT :free
        FOR UPDATE SKIP LOCKED
    )
    UPDATE user_devices d SET
        host_id = :host, status = 'connecting', offline_since_at = coalesce(d.offline_since_at, now()), updated_at = now()
    FROM placed WHERE d.id = placed.id AND d.host_id IS NULL
    RETURNING d.id
""")

_HELD = text("""
    SELECT host_id, count(*) AS devices FROM user_devices WHERE host_id = ANY(CAST(:hosts AS bigint[])) GROUP BY host_id
""")


async def waiting_devices(session: AsyncSession, transport: TransportKind) -> list[tuple[UUID, int]]:
    """The linked devices without a host, with the generations of their links; those of one user one after another."""
    rows = await session.execute(_WAITING, {"transport": transport.value})
    return [(row.id, row.link_generation) for row in rows]


async def place_devices(
    session: AsyncSession, transport: TransportKind, host_id: int, devices: Collection[UUID], free: int
) -> list[UUID]:
    """Give a host up to `free` of these devices, as far as they still wait; returns which."""
    values = {"host": host_id, "transport": transport.value, "devices": list(devices), "free": free}
    return list((await session.execute(_PLACE, values)).scalars())


async def held_devices(session: AsyncSession, hosts: Collection[int]) -> dict[int, int]:
    """How many devices each of these hosts holds, without those that hold none."""
    rows = await session.execute(_HELD, {"hosts": list(hosts)})
    return {row.host_id: row.devices for row in rows}
