"""Settlement: what becomes of a row that was claimed by somebody who is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.chat_sends import show_sent
from siaran.ledger.claims import Claim
from siaran.ledger.counters import Change, change_counters
from siaran.ledger.receipts import hold_lanes, join_early_receipts
from siaran.models import MessageStatus

CLAIM_LIMIT = timedelta(minutes=10)
"""A row that stays claimed for longer, with no live slice to settle it, becomes `unknown`."""


@dataclass(frozen=True, slots=True)
class OpenClaim:
    """A claimed row whose attempt has no outcome, and whom it was claimed for."""

    message_id: int
    attempt: int
    device_id: UUID
    user_id: UUID
    campaign_id: int | None
    sequence_id: UUID | None
    source: str
    phone: str
    link_generation: int
    whatsapp_id: str | None
    attempted_at: datetime


_OPEN = text("""
    SELECT m.id AS message_id, m.attempt, m.device_id, m.user_id, m.campaign_id, m.sequence_id, m.source,
        m.recipient_phone AS phone, a.link_generation, a.whatsapp_id, a.attempted_at
    FROM broadcast_messages m JOIN message_attempts a ON a.message_id = m.id AND a.attempt = m.attempt
    WHERE m.device_id = :device AND m.user_id = :user AND m.status = 'claimed'
""")

_NOTE = text("""
    UPDATE message_attempts SET whatsapp_id = :whatsapp_id
    WHERE message_id = :message AND attempt = :attempt AND user_id = :user AND whatsapp_id IS NULL
""")

_STATUS = text("SELECT status FROM broadcast_messages WHERE id = :message AND user_id = :user")

# A host that lives and holds the device settles its own rows, however long PostgreSQL or WhatsApp keeps it waiting.
_SWEEP = text("""
    WITH stale AS MATERIALIZED (
        SELECT m.id FROM broadcast_messages m
        JOIN user_devices d ON d.id = m.device_id
        JOIN message_attempts a ON a.message_id = m.id AND a.attempt = m.attempt
        LEFT JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
        WHERE m.status = 'claimed' AND m.claimed_at < :before AND (h.id IS NULL OR d.status <> 'online')
        ORDER BY m.id LIMIT 1000
        FOR UPDATE OF m SKIP LOCKED
    ), closed AS (
        UPDATE message_attempts a SET outcome = 'unknown', finished_at = :now
        FROM broadcast_messages m JOIN stale ON stale.id = m.id
        WHERE a.message_id = m.id AND a.attempt = m.attempt AND a.outcome = 'open'
    )
    UPDATE broadcast_messages m SET status = 'unknown', error_code = 'outcome_unknown', error_message = :reason
    FROM stale WHERE m.id = stale.id AND m.status = 'claimed'
    RETURNING m.campaign_id, m.device_id, m.user_id, m.claimed_at
""")

OUTCOME_UNKNOWN = "Nobody can tell whether this message was delivered; sending it again may deliver it twice."


async def open_claims(session: AsyncSession, user_id: UUID, device_id: UUID) -> Sequence[OpenClaim]:
    """The claimed rows of a device; at most one where its lane works, since a device claims one at a time."""
    rows = await session.execute(_OPEN, {"device": device_id, "user": user_id})
    return [OpenClaim(**row._mapping) for row in rows]  # noqa: SLF001 -- SQLAlchemy's public way to a row's names


async def note_whatsapp_id(
    session: AsyncSession, claim: Claim | OpenClaim, whatsapp_id: str, *, store_chats: bool = False
) -> None:
    """Remember under which id an attempt was transmitted, and apply the receipts that are there already."""
    await hold_lanes(session, [claim.device_id])
    await session.execute(
        _NOTE,
        {"whatsapp_id": whatsapp_id, "message": claim.message_id, "attempt": claim.attempt, "user": claim.user_id},
    )
    joined = await join_early_receipts(session, [(claim.device_id, whatsapp_id)])
    if store_chats:
        await show_sent(session, joined.proven)
    await change_counters(session, joined.changes)


async def message_status(session: AsyncSession, user_id: UUID, message_id: int) -> MessageStatus:
    """Where a message stands now."""
    row = (await session.execute(_STATUS, {"message": message_id, "user": user_id})).one()
    return MessageStatus(row.status)


async def sweep_stale_claims(session: AsyncSession, now: datetime) -> int:
    """Turn rows claimed too long ago, whose device no live host has online, into `unknown`; returns how many."""
    rows = await session.execute(_SWEEP, {"before": now - CLAIM_LIMIT, "now": now, "reason": OUTCOME_UNKNOWN})
    changes = [
        Change(
            row.campaign_id, row.device_id, row.user_id, MessageStatus.CLAIMED, MessageStatus.UNKNOWN, after_at=row.claimed_at
        )
        for row in rows
    ]
    await change_counters(session, changes)
    return len(changes)
