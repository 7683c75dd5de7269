"""The frequency cap: how many messages one contact gets from a user within some days, whatever they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

FREQUENCY_CAP = "frequency_cap"
"""The error code of a message that was not sent because its contact has had enough."""


@dataclass(frozen=True, slots=True)
class LimitedClaim:
    """A row that has just been claimed for a contact of a user who set a limit."""

    message_id: int
    user_id: UUID
    phone: str


# Whoever claims for the same contact at the same time waits here until we have committed, and then sees our row.
_HOLD = text("""
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(user_id || ':' || phone, 0) AS key
        FROM unnest(CAST(:users AS uuid[]), CAST(:phones AS text[])) AS c(user_id, phone)
        ORDER BY key
    ) keys
""")

# An outcome that nobody knows counts: the contact may have got that message.
_OVER = text("""
    SELECT c.message_id
    FROM unnest(CAST(:messages AS bigint[]), CAST(:users AS uuid[]), CAST(:phones AS text[])) AS c(message_id, user_id, phone)
    JOIN users u ON u.id = c.user_id
    WHERE u.contact_limit <= (
        SELECT count(*) FROM broadcast_messages m
        WHERE m.user_id = c.user_id AND m.recipient_phone = c.phone AND m.id <> c.message_id
            AND (m.id < c.message_id OR m.id <> ALL(CAST(:messages AS bigint[])))
            AND (m.sent_at > :now - make_interval(days => u.contact_limit_days)
                OR (m.sent_at IS NULL AND m.status IN ('claimed', 'unknown')
                    AND m.claimed_at > :now - make_interval(days => u.contact_limit_days)))
    )
""")

_SUPPRESS = text("""
    UPDATE broadcast_messages SET status = 'suppressed', attempt = attempt - 1, error_code = :code, error_message = :reason
    WHERE id = ANY(CAST(:messages AS bigint[])) AND status = 'claimed'
""")


async def suppress_over_limit(session: AsyncSession, claims: Sequence[LimitedClaim], now: datetime) -> set[int]:
    """End those of the claims whose contact has had as many messages as its user allows; returns their message ids.

    Claims of one contact by two devices in the same batch are looked at together: the one with the lower id goes first.
    """
    if not claims:
        return set()
    columns = {"users": [claim.user_id for claim in claims], "phones": [claim.phone for claim in claims]}
    await session.execute(_HOLD, columns)
    messages = [claim.message_id for claim in claims]
    over = set((await session.execute(_OVER, {**columns, "messages": messages, "now": now})).scalars())
    if over:
        reason = "This contact has already had as many messages as you allow within some days."
        await session.execute(_SUPPRESS, {"messages": sorted(over), "code": FREQUENCY_CAP, "reason": reason})
    return over
