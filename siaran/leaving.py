"""Leaving sequences: contacts who reply, or ask to be left alone, get nothing more of those that are set to heed it."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.sequence_logs import Event, log_events
from siaran.step_withdrawals import withdraw_steps

Contact = tuple[UUID, str]
"""A user, and the phone of a contact of theirs."""

REPLIED = "replied"
OPTED_OUT = "opted out"

# Who writes before having got anything of a sequence has not replied to it.
_LEAVE = text("""
    WITH leaving AS MATERIALIZED (
        SELECT e.id FROM unnest(CAST(:users AS uuid[]), CAST(:phones AS text[])) AS c(user_id, phone)
        JOIN sequence_contacts e ON e.user_id = c.user_id AND e.contact_phone = c.phone AND e.status IN ('active', 'paused')
        JOIN sequences q ON q.id = e.sequence_id AND q.user_id = e.user_id AND q.deleted_at IS NULL
        WHERE CASE WHEN :replied THEN q.leave_on_reply AND EXISTS (
                SELECT FROM broadcast_messages m WHERE m.enrollment_id = e.id AND m.user_id = e.user_id
                    AND m.status IN ('claimed', 'sent', 'delivered', 'read', 'unknown')
            ) ELSE q.leave_on_opt_out END
        ORDER BY e.id FOR UPDATE OF e
    )
    UPDATE sequence_contacts e SET
        status = 'left', left_because = :why, next_send_at = NULL, paused_at = NULL, wanted_at = :now
    FROM leaving WHERE e.id = leaving.id AND e.status IN ('active', 'paused')
    RETURNING e.id, e.user_id, e.sequence_id
""")


async def leave_on_reply(session: AsyncSession, contacts: Collection[Contact], now: datetime) -> int:
    """Take contacts who have written out of the sequences that end at a reply; returns out of how many. The caller commits."""
    return await _leave(session, contacts, REPLIED, now)


async def leave_on_opt_out(session: AsyncSession, contacts: Collection[Contact], now: datetime) -> int:
    """Take contacts who have opted out out of the sequences that end at that; returns out of how many. The caller commits."""
    return await _leave(session, contacts, OPTED_OUT, now)


async def _leave(session: AsyncSession, contacts: Collection[Contact], why: str, now: datetime) -> int:
    """What is queued is taken back in the same transaction; their workflows are told by the next sweep, and end."""
    if not contacts:
        return 0
    wanted = sorted(set(contacts))
    values = {"users": [user for user, _ in wanted], "phones": [phone for _, phone in wanted]}
    rows = (await session.execute(_LEAVE, {**values, "replied": why == REPLIED, "why": why, "now": now})).all()
    await withdraw_steps(session, [row.id for row in rows])
    await log_events(session, [Event(row.user_id, row.sequence_id, row.id, "left", now, detail=why) for row in rows])
    return len(rows)
