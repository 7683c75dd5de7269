"""Recording: how attempts ended. Evidence of a transmission is accepted at any age and from any host."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.chat_sends import show_sent
from siaran.ledger.counters import Change, change_counters
from siaran.ledger.receipts import join_early_receipts
from siaran.models import AttemptOutcome, MessageStatus
from siaran.webhook_news import announce_failures


@dataclass(frozen=True, slots=True)
class Record:
    """How one attempt ended.

    `status` is what becomes of the message: `sent`, `failed`, `unknown`, or `pending` where nothing was transmitted and it is
    to be tried again. `began_at` is when the transmission began, where this process saw it, `next_send_at` the end of the gap
    that the device waits after it.
    """

    message_id: int
    attempt: int
    device_id: UUID
    user_id: UUID
    campaign_id: int | None
    sequence_id: UUID | None
    source: str
    status: MessageStatus
    outcome: AttemptOutcome
    at: datetime
    began_at: datetime | None = None
    whatsapp_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    is_retryable: bool = False
    next_send_at: datetime | None = None


_CLOSE_ATTEMPTS = text("""
    UPDATE message_attempts a SET
        outcome = r.outcome, whatsapp_id = coalesce(r.whatsapp_id, a.whatsapp_id), error_code = r.error_code,
        finished_at = r.at, attempted_at = coalesce(r.began_at, a.attempted_at)
    FROM unnest(
        CAST(:messages AS bigint[]), CAST(:attempts AS int[]), CAST(:outcomes AS text[]), CAST(:whatsapp_ids AS text[]),
        CAST(:codes AS text[]), CAST(:times AS timestamptz[]), CAST(:begins AS timestamptz[])
    ) AS r(message_id, attempt, outcome, whatsapp_id, error_code, at, began_at)
    WHERE a.message_id = r.message_id AND a.attempt = r.attempt
        AND (a.outcome = 'open' OR (a.outcome = 'unknown' AND r.outcome IN ('sent', 'unknown')))
    RETURNING a.message_id, a.attempt, r.outcome
""")

# Only the newest attempt decides, but for evidence that one was sent; a rank never falls: a receipt may have been quicker.
_CLOSE_MESSAGES = text("""
    UPDATE broadcast_messages m SET
        status = r.status, error_code = r.error_code, error_message = r.error_message, is_retryable = r.is_retryable,
        sent_at = CASE WHEN r.status = 'sent' THEN r.at ELSE m.sent_at END
    FROM unnest(
        CAST(:messages AS bigint[]), CAST(:attempts AS int[]), CAST(:statuses AS text[]), CAST(:codes AS text[]),
        CAST(:reasons AS text[]), CAST(:retryable AS bool[]), CAST(:times AS timestamptz[])
    ) AS r(message_id, attempt, status, error_code, error_message, is_retryable, at)
    WHERE m.id = r.message_id AND (
        (m.status = 'claimed' AND m.attempt = r.attempt)
        OR (r.status = 'sent' AND m.status NOT IN ('sent', 'delivered', 'read'))
    )
    RETURNING m.campaign_id, m.device_id, m.user_id, old.status AS before, new.status AS after,
        coalesce(old.sent_at, old.claimed_at, old.scheduled_at) AS before_at,
        coalesce(new.sent_at, new.claimed_at, new.scheduled_at) AS after_at,
        m.id AS message_id, m.sequence_id, m.recipient_phone AS phone, m.error_code, m.error_message, m.is_retryable, r.at
""")

# An attempt counts once, at the record that closes it. Written first, and locked in the order in which wakers lock: whoever
# holds a lane's row sees, or is seen by, the receipts that `apply_receipts` keeps.
_LANES = text("""
    WITH held AS MATERIALIZED (
        SELECT device_id FROM lanes WHERE device_id = ANY(CAST(:lanes AS uuid[])) ORDER BY device_id FOR NO KEY UPDATE
    ), counted AS (
        SELECT r.device_id, count(*) FILTER (WHERE r.is_done) AS processed, count(*) FILTER (WHERE r.is_failed) AS failed
        FROM unnest(
            CAST(:devices AS uuid[]), CAST(:messages AS bigint[]), CAST(:attempts AS int[]), CAST(:done AS bool[]),
            CAST(:failed AS bool[])
        ) AS r(device_id, message_id, attempt, is_done, is_failed)
        JOIN message_attempts a ON a.message_id = r.message_id AND a.attempt = r.attempt AND a.outcome = 'open'
        GROUP BY r.device_id
    )
    UPDATE lanes l SET
        processed = l.processed + coalesce(c.processed, 0), failed = l.failed + coalesce(c.failed, 0), last_activity_at = r.at,
        last_source = r.source, next_send_at = r.next_send_at, last_error = coalesce(r.error, l.last_error),
        current_campaign_id = r.campaign_id, current_sequence_id = r.sequence_id
    FROM unnest(
        CAST(:lanes AS uuid[]), CAST(:times AS timestamptz[]), CAST(:sources AS text[]), CAST(:next_sends AS timestamptz[]),
        CAST(:errors AS text[]), CAST(:campaigns AS bigint[]), CAST(:sequences AS uuid[])
    ) AS r(device_id, at, source, next_send_at, error, campaign_id, sequence_id)
    JOIN held ON held.device_id = r.device_id
    LEFT JOIN counted c ON c.device_id = r.device_id
    WHERE l.device_id = r.device_id
""")


async def record_outcomes(session: AsyncSession, records: Sequence[Record], *, store_chats: bool = False) -> None:
    """Write how attempts ended, join receipts that came before, and change counters; the caller commits.

    Writing the same record twice changes nothing the second time. With `store_chats`, what was sent is shown in the chats of
    the devices.
    """
    await _note_lanes(session, records)
    ordered = sorted(records, key=lambda record: record.message_id)
    columns = {
        "messages": [record.message_id for record in ordered],
        "attempts": [record.attempt for record in ordered],
        "codes": [record.error_code for record in ordered],
        "times": [record.at for record in ordered],
    }
    closed = await session.execute(
        _CLOSE_ATTEMPTS,
        {
            **columns,
            "outcomes": [record.outcome.value for record in ordered],
            "whatsapp_ids": [record.whatsapp_id for record in ordered],
            "begins": [record.began_at for record in ordered],
        },
    )
    sent = [(row.message_id, row.attempt) for row in closed if row.outcome == AttemptOutcome.SENT]
    result = await session.execute(
        _CLOSE_MESSAGES,
        {
            **columns,
            "statuses": [record.status.value for record in ordered],
            "reasons": [record.error_message for record in ordered],
            "retryable": [record.is_retryable for record in ordered],
        },
    )
    changed = result.all()
    await announce_failures(session, [row for row in changed if row.after == MessageStatus.FAILED])
    changes = [Change.of(row) for row in changed]
    with_ids = [(record.device_id, record.whatsapp_id) for record in ordered if record.whatsapp_id is not None]
    joined = await join_early_receipts(session, with_ids)
    changes += joined.changes
    if store_chats:
        await show_sent(session, sent + joined.proven)
    await change_counters(session, changes)


async def _note_lanes(session: AsyncSession, records: Sequence[Record]) -> None:
    last = {record.device_id: record for record in records}
    lanes = sorted(last)
    ended = [record.status is not MessageStatus.PENDING for record in records]
    await session.execute(
        _LANES,
        {
            "devices": [record.device_id for record in records],
            "messages": [record.message_id for record in records],
            "attempts": [record.attempt for record in records],
            "done": ended,
            "failed": [done and record.status is not MessageStatus.SENT for done, record in zip(ended, records, strict=True)],
            "lanes": lanes,
            "times": [last[device].at for device in lanes],
            "sources": [last[device].source for device in lanes],
            "next_sends": [last[device].next_send_at for device in lanes],
            "errors": [last[device].error_code for device in lanes],
            "campaigns": [last[device].campaign_id for device in lanes],
            "sequences": [last[device].sequence_id for device in lanes],
        },
    )
