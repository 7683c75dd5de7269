"""Sequences that somebody forgot to nudge: with leads to enroll, or contacts whose workflows know nothing of a change."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.contracts import SequenceInput
from siaran.enrolling import OVERDUE

LATE = timedelta(seconds=30)
"""What should have been told this long ago has been forgotten by somebody."""

COMMIT = timedelta(minutes=2)
"""Longer than it takes from when a lead is stamped as changed until that is committed."""

_FORGOTTEN = text("""
    SELECT q.id, q.user_id FROM sequences q
    WHERE (q.deleted_at IS NULL AND q.status = 'active' AND (
            q.enrolled_until_at IS NULL
            OR EXISTS (SELECT FROM leads l WHERE l.user_id = q.user_id AND l.updated_at > q.enrolled_until_at - :commit)
            OR EXISTS (SELECT FROM sequence_contacts e
                WHERE e.sequence_id = q.id AND e.workflow_started_at IS NULL AND e.status = 'active')
            OR EXISTS (SELECT FROM sequence_contacts e
                WHERE e.sequence_id = q.id AND e.status = 'active' AND e.next_send_at < :overdue)
            OR EXISTS (SELECT FROM sequence_contacts e
                WHERE e.sequence_id = q.id AND e.status = 'active' AND e.next_send_at IS NULL
                    AND e.workflow_started_at < :overdue)
        ))
        OR (q.deleted_at BETWEEN :yesterday AND :late AND EXISTS (SELECT FROM sequence_contacts e
            WHERE e.sequence_id = q.id AND e.status IN ('active', 'paused') AND e.workflow_started_at IS NOT NULL))
        OR EXISTS (SELECT FROM sequence_contacts e WHERE e.sequence_id = q.id AND e.wanted_at < :late)
        OR EXISTS (SELECT FROM sequence_retries r
            WHERE r.sequence_id = q.id AND r.done_at IS NULL AND r.requested_at < :late AND q.deleted_at IS NULL)
    ORDER BY q.id
""")


async def forgotten_sequences(session: AsyncSession, now: datetime) -> list[SequenceInput]:
    """Sequences whose workflows have something to do that nobody may have told them."""
    rows = await session.execute(
        _FORGOTTEN,
        {"commit": COMMIT, "overdue": now - OVERDUE, "late": now - LATE, "yesterday": now - timedelta(days=1)},
    )
    return [SequenceInput(row.id, row.user_id) for row in rows]
