"""Taking back what was queued for contacts who are to get nothing more for now, or ever."""

from collections.abc import Sequence as Rows

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# A message that was taken back had not gone out: its step is due again, should the contact go on.
_WITHDRAW = text("""
    WITH taken AS (
        UPDATE broadcast_messages m SET status = 'cancelled'
        FROM sequence_contacts e
        WHERE e.id = ANY(CAST(:ids AS bigint[])) AND m.enrollment_id = e.id AND m.user_id = e.user_id AND m.status = 'pending'
        RETURNING m.enrollment_id, m.cycle, m.step_id
    ), undone AS (
        SELECT e.id, coalesce(max(p.day), 0) AS day, count(p.id) AS steps
        FROM taken t
        JOIN sequence_contacts e ON e.id = t.enrollment_id AND e.cycle = t.cycle
        JOIN sequence_steps st ON st.id = t.step_id AND st.user_id = e.user_id AND st.day = e.current_day
        LEFT JOIN sequence_steps p
            ON p.sequence_id = e.sequence_id AND p.user_id = e.user_id AND p.day < st.day AND p.deleted_at IS NULL
        GROUP BY e.id
    )
    UPDATE sequence_contacts e SET current_day = undone.day, current_step = undone.steps FROM undone WHERE e.id = undone.id
""")


async def withdraw_steps(session: AsyncSession, enrollment_ids: Rows[int]) -> None:
    """Cancel what is pending of contacts and has not been claimed; its step counts as not passed again.

    The caller has seen to it that the contacts are the right user's, holds their rows' locks, and commits. Messages of
    sequences are in no counter while they are pending, so none changes.
    """
    if enrollment_ids:
        await session.execute(_WITHDRAW, {"ids": list(enrollment_ids)})
