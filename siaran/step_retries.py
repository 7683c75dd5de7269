"""Carrying out requests to send a failed step again: each once, whoever asks how often."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import StepRetry
from siaran.ledger.counters import Change, change_counters
from siaran.models import MessageStatus, SequenceRetry
from siaran.tenancy import select_owned

# One that was tried after the request was made is not taken up a second time.
_RETRY = text("""
    UPDATE broadcast_messages m SET
        status = 'pending', scheduled_at = :now, error_code = NULL, error_message = NULL, is_retryable = false
    FROM sequence_contacts e JOIN sequences q ON q.id = e.sequence_id AND q.user_id = e.user_id AND q.deleted_at IS NULL
    WHERE m.id = :message AND m.user_id = :user AND m.enrollment_id = :enrollment AND m.claimed_at < :requested_at
        AND ((m.status = 'failed' AND m.is_retryable) OR m.status = 'unknown')
        AND e.id = m.enrollment_id AND e.user_id = m.user_id AND e.status NOT IN ('left', 'removed')
    RETURNING m.device_id, old.status AS before,
        coalesce(old.sent_at, old.claimed_at, old.scheduled_at) AS before_at
""")


async def carry_out_retry(session: AsyncSession, retry: StepRetry, now: datetime) -> UUID | None:
    """Make a failed message pending again, due now, if an open request asks for it; returns the device whose lane to wake.

    The caller commits.
    """
    query = (
        select_owned(SequenceRetry, retry.user_id)
        .where(
            SequenceRetry.enrollment_id == retry.enrollment_id,
            SequenceRetry.message_id == retry.message_id,
            SequenceRetry.done_at.is_(None),
        )
        .with_for_update()
    )
    request = (await session.scalars(query)).one_or_none()
    if request is None:
        return None
    request.done_at = now
    values = {"message": retry.message_id, "user": retry.user_id, "enrollment": retry.enrollment_id, "now": now}
    row = (await session.execute(_RETRY, {**values, "requested_at": request.requested_at})).one_or_none()
    if row is None:
        return None
    before = MessageStatus(row.before)
    change = Change(None, row.device_id, retry.user_id, before, MessageStatus.PENDING, before_at=row.before_at, after_at=now)
    await change_counters(session, [change])
    device_id: UUID = row.device_id
    return device_id
