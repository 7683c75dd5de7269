"""Failover: pending rows of a device that cannot send them move to the owner's other devices; claimed ones never do."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.ledger.counters import Change, change_counters
from siaran.models import MessageStatus
from siaran.webhook_news import announce_failures

BATCH = 1000
"""Rows moved in one transaction: their locks are short, and a claim that meets them skips them."""

# A campaign's messages are due as soon as it is, whatever a restricted device had put them off to.
# Rows that are bound to their device (strategy `owner`, a campaign of one device, what belongs to no campaign or sequence) wait
# for it. A device that is there and merely restricted keeps what goes to chats it has.
_MOVE = text("""
    WITH targets AS MATERIALIZED (
        SELECT d.id, row_number() OVER (ORDER BY d.id) - 1 AS position, count(*) OVER () AS total
        FROM user_devices d
        JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
        JOIN lanes l ON l.device_id = d.id AND l.paused_at IS NULL
        WHERE d.user_id = :user AND d.id <> :device AND d.status = 'online' AND d.is_active AND d.deleted_at IS NULL
            AND (d.restricted_until_at IS NULL OR d.restricted_until_at <= :now)
    ), moving AS MATERIALIZED (
        SELECT m.id FROM broadcast_messages m
        LEFT JOIN campaigns c ON c.id = m.campaign_id
        LEFT JOIN sequences q ON q.id = m.sequence_id
        WHERE m.device_id = :device AND m.user_id = :user AND m.status = 'pending' AND m.source <> '!'
            AND coalesce(c.device_strategy, q.device_strategy) <> 'owner' AND coalesce(c.device_id, q.device_id) IS NULL
            AND EXISTS (SELECT FROM targets)
            AND (NOT :new_chats_only OR NOT has_chat(m.user_id, m.device_id, m.recipient_phone))
        ORDER BY m.id LIMIT :batch
        FOR UPDATE OF m SKIP LOCKED
    ), placed AS (
        SELECT id, (row_number() OVER (ORDER BY id) - 1) AS position FROM moving
    )
    UPDATE broadcast_messages m SET device_id = t.id,
        scheduled_at = CASE WHEN m.campaign_id IS NULL THEN m.scheduled_at ELSE least(m.scheduled_at, :now) END
    FROM placed p JOIN targets t ON t.position = p.position % t.total
    WHERE m.id = p.id AND m.status = 'pending' AND m.device_id = :device
    RETURNING m.campaign_id, m.device_id
""")


# Nobody else may send these, and their device will never be back.
_GIVE_UP = text("""
    WITH bound AS MATERIALIZED (
        SELECT m.id FROM broadcast_messages m
        JOIN user_devices d ON d.id = m.device_id AND d.deleted_at IS NOT NULL
        LEFT JOIN campaigns c ON c.id = m.campaign_id
        LEFT JOIN sequences q ON q.id = m.sequence_id
        WHERE m.device_id = :device AND m.user_id = :user AND m.status = 'pending'
            AND (coalesce(c.device_strategy, q.device_strategy, 'owner') = 'owner'
                OR coalesce(c.device_id, q.device_id) IS NOT NULL)
        ORDER BY m.id LIMIT :batch
        FOR UPDATE OF m SKIP LOCKED
    )
    UPDATE broadcast_messages m SET
        status = 'failed', error_code = 'device_removed', is_retryable = false,
        error_message = 'The device that had to send this message was removed.'
    FROM bound WHERE m.id = bound.id AND m.status = 'pending'
    RETURNING m.user_id, m.device_id, m.id AS message_id, m.campaign_id, m.sequence_id, m.recipient_phone AS phone,
        m.error_code, m.error_message, m.is_retryable, CAST(:now AS timestamptz) AS at,
        coalesce(m.claimed_at, m.scheduled_at) AS counted_at
""")


async def give_up_batch(session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime) -> int:
    """Fail up to `BATCH` pending rows that only a device which was removed could have sent; returns how many."""
    values = {"user": user_id, "device": device_id, "batch": BATCH, "now": now}
    rows = (await session.execute(_GIVE_UP, values)).all()
    await announce_failures(session, rows)
    await change_counters(
        session,
        [
            Change(row.campaign_id, device_id, user_id, MessageStatus.PENDING, MessageStatus.FAILED, after_at=row.counted_at)
            for row in rows
        ],
    )
    return len(rows)


# Made due when the restriction ends; a row whose turn comes after that stays as it is.
_HOLD_BACK = text("""
    WITH held AS MATERIALIZED (
        SELECT m.id, d.restricted_until_at FROM broadcast_messages m
        JOIN user_devices d ON d.id = m.device_id AND d.restricted_until_at > :now
        WHERE m.device_id = :device AND m.user_id = :user AND m.status = 'pending' AND m.scheduled_at < d.restricted_until_at
            AND NOT has_chat(m.user_id, m.device_id, m.recipient_phone)
        ORDER BY m.id LIMIT :batch
        FOR UPDATE OF m
    )
    UPDATE broadcast_messages m SET scheduled_at = held.restricted_until_at
    FROM held WHERE m.id = held.id AND m.status = 'pending' AND m.device_id = :device
""")


async def hold_back_batch(session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime) -> int:
    """Put off up to `BATCH` messages to new chats until a device's restriction (463) ends; returns how many."""
    held = await session.execute(_HOLD_BACK, {"user": user_id, "device": device_id, "batch": BATCH, "now": now})
    return cast("CursorResult[Any]", held).rowcount


# A restriction that was prolonged has put some off until its earlier end.
_RELEASE = text("""
    UPDATE broadcast_messages SET scheduled_at = :now
    WHERE device_id = :device AND user_id = :user AND status = 'pending'
        AND scheduled_at > :now AND scheduled_at <= :held_until
""")


async def release_held(session: AsyncSession, user_id: UUID, device_id: UUID, held_until_at: datetime, now: datetime) -> int:
    """Make due at once what was put off until a restriction that is over now; returns how many."""
    values = {"user": user_id, "device": device_id, "held_until": held_until_at, "now": now}
    return cast("CursorResult[Any]", await session.execute(_RELEASE, values)).rowcount


async def move_batch(
    session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime, *, new_chats_only: bool = False
) -> dict[UUID, int]:
    """Move up to `BATCH` pending rows of a device, round robin; returns how many went to which device, none where none can.

    With `new_chats_only` those stay that go to somebody with whom the device has a chat.
    """
    values = {"user": user_id, "device": device_id, "batch": BATCH, "now": now, "new_chats_only": new_chats_only}
    rows = (await session.execute(_MOVE, values)).all()
    changes: list[Change] = []
    moved: dict[UUID, int] = {}
    for row in rows:
        moved[row.device_id] = moved.get(row.device_id, 0) + 1
        changes.append(Change(row.campaign_id, device_id, user_id, MessageStatus.PENDING, None))
        changes.append(Change(row.campaign_id, row.device_id, user_id, None, MessageStatus.PENDING))
    await change_counters(session, changes)
    return moved
