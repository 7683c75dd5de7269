"""Bulk changes of a campaign's rows: cancelling what is pending, and sending again what failed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.ledger.counters import Change, change_counters

BATCH = 1000
"""Rows changed in one transaction."""

# Materialised, since PostgreSQL may run a subquery with LIMIT and FOR UPDATE again for every row, and so exceed the limit.
_CANCEL = text("""
    WITH batch AS MATERIALIZED (
        SELECT id FROM broadcast_messages
        WHERE campaign_id = :campaign AND user_id = :user AND status = 'pending'
        ORDER BY id LIMIT :batch
        FOR UPDATE
    )
    UPDATE broadcast_messages m SET status = 'cancelled'
    FROM batch WHERE m.id = batch.id AND m.user_id = :user AND m.status = 'pending'
    RETURNING m.id, m.campaign_id, m.device_id, m.user_id, old.status AS before, new.status AS after,
        coalesce(old.sent_at, old.claimed_at, old.scheduled_at) AS before_at,
        coalesce(new.sent_at, new.claimed_at, new.scheduled_at) AS after_at
""")

# One person's retry of one message is the only way out of `unknown`.
_RETRY = text("""
    WITH batch AS MATERIALIZED (
        SELECT id FROM broadcast_messages
        WHERE campaign_id = :campaign AND user_id = :user
            AND (CAST(:device AS uuid) IS NULL OR device_id = :device)
            AND (CAST(:message AS bigint) IS NULL OR id = :message)
            AND ((status = 'failed' AND is_retryable) OR (status = 'unknown' AND id = :message))
            AND claimed_at < :requested_at
        ORDER BY id LIMIT :batch
        FOR UPDATE
    )
    UPDATE broadcast_messages m SET
        status = 'pending', scheduled_at = :requested_at, error_code = NULL, error_message = NULL, is_retryable = false
    FROM batch WHERE m.id = batch.id AND m.user_id = :user AND (m.status = 'failed' OR m.status = 'unknown')
    RETURNING m.id, m.campaign_id, m.device_id, m.user_id, old.status AS before, new.status AS after,
        coalesce(old.sent_at, old.claimed_at, old.scheduled_at) AS before_at,
        coalesce(new.sent_at, new.claimed_at, new.scheduled_at) AS after_at
""")


async def _change(session: AsyncSession, statement: TextClause, campaign_id: int, parameters: dict[str, object]) -> list[UUID]:
    rows = (await session.execute(statement, {"campaign": campaign_id, "batch": BATCH, **parameters})).all()
    await change_counters(
        session,
        [Change.of(row) for row in rows],
    )
    return [row.device_id for row in rows]


async def cancel_batch(session: AsyncSession, user_id: UUID, campaign_id: int) -> int:
    """Cancel up to `BATCH` pending rows of a campaign; claimed ones reach their own end. Returns how many."""
    return len(await _change(session, _CANCEL, campaign_id, {"user": user_id}))


async def retry_batch(
    session: AsyncSession,
    user_id: UUID,
    campaign_id: int,
    requested_at: datetime,
    *,
    device_id: UUID | None,
    message_id: int | None,
) -> list[UUID]:
    """Make up to `BATCH` failed rows pending again, due at once; returns the device of each.

    Rows that were tried after `requested_at` are left alone: a message that fails again while its retry is being carried out is
    not taken up a second time.
    """
    parameters: dict[str, object] = {"user": user_id, "requested_at": requested_at, "device": device_id, "message": message_id}
    return await _change(session, _RETRY, campaign_id, parameters)
