"""Receipts: how far messages got on the recipients' side, whenever the news arrives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.chat_sends import Attempt, show_sent, tick_sent
from siaran.gateway.interface import Receipt
from siaran.ledger.counters import Change, change_counters
from siaran.webhook_news import announce_receipts

# A receipt for any attempt is evidence for its message: it raises every lower rank, a pending retry included.
_RAISE = text("""
    WITH news AS (
        SELECT r.device_id, r.whatsapp_id, max(r.at) FILTER (WHERE r.kind = 'read') AS read_at,
            max(r.at) FILTER (WHERE r.kind = 'delivered') AS delivered_at, max(r.at) AS at,
            max(CASE r.kind WHEN 'read' THEN 3 WHEN 'delivered' THEN 2 ELSE 1 END) AS rank
        FROM unnest(
            CAST(:devices AS uuid[]), CAST(:whatsapp_ids AS text[]), CAST(:kinds AS text[]), CAST(:times AS timestamptz[])
        ) AS r(device_id, whatsapp_id, kind, at)
        GROUP BY r.device_id, r.whatsapp_id
    ), attempted AS (
        SELECT a.message_id, a.attempt, a.user_id, news.*
        FROM news JOIN message_attempts a ON a.device_id = news.device_id AND a.whatsapp_id = news.whatsapp_id
    ), closed AS (
        UPDATE message_attempts a SET outcome = 'sent', finished_at = coalesce(a.finished_at, t.at)
        FROM attempted t
        WHERE a.message_id = t.message_id AND a.attempt = t.attempt AND a.outcome IN ('open', 'unknown')
        RETURNING a.message_id, a.attempt
    ), raised AS (
        UPDATE broadcast_messages m SET
            status = (ARRAY['sent', 'delivered', 'read'])[t.rank],
            error_code = NULL, error_message = NULL, is_retryable = false,
            sent_at = coalesce(m.sent_at, t.at), delivered_at = coalesce(m.delivered_at, t.delivered_at, t.read_at),
            read_at = coalesce(m.read_at, t.read_at)
        FROM (
            SELECT message_id, user_id, max(rank) AS rank, max(at) AS at, max(delivered_at) AS delivered_at,
                max(read_at) AS read_at, max(whatsapp_id) AS whatsapp_id
            FROM attempted GROUP BY message_id, user_id
        ) t
        WHERE m.id = t.message_id AND m.user_id = t.user_id
            AND t.rank > CASE m.status WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 WHEN 'read' THEN 3 ELSE 0 END
        RETURNING m.campaign_id, m.device_id, m.user_id, old.status AS before, new.status AS after,
            coalesce(old.sent_at, old.claimed_at, old.scheduled_at) AS before_at,
            coalesce(new.sent_at, new.claimed_at, new.scheduled_at) AS after_at, t.whatsapp_id, m.id AS message_id, t.at
    )
    SELECT 'raised' AS what, campaign_id, device_id, user_id, before, after, before_at, after_at, whatsapp_id, message_id,
        CAST(NULL AS int) AS attempt, at
    FROM raised
    UNION ALL
    SELECT 'matched', NULL, device_id, user_id, NULL, NULL, NULL, NULL, whatsapp_id, NULL, NULL, NULL FROM attempted
    UNION ALL
    SELECT 'proven', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, message_id, attempt, NULL FROM closed
""")

# Held by whoever writes the record of an attempt, too: of a receipt and a record that are written at the same time, one waits
# for the other, and the later one joins them.
_HOLD_LANES = text("""
    SELECT 1 FROM lanes WHERE device_id = ANY(CAST(:devices AS uuid[])) ORDER BY device_id FOR NO KEY UPDATE
""")

_KEEP = text("""
    INSERT INTO message_receipts (device_id, whatsapp_id, kind, user_id, received_at)
    SELECT r.device_id, r.whatsapp_id, r.kind, d.user_id, r.at
    FROM unnest(
        CAST(:devices AS uuid[]), CAST(:whatsapp_ids AS text[]), CAST(:kinds AS text[]), CAST(:times AS timestamptz[])
    ) AS r(device_id, whatsapp_id, kind, at)
    JOIN user_devices d ON d.id = r.device_id
    ON CONFLICT DO NOTHING
""")

_TAKE = text("""
    DELETE FROM message_receipts r
    USING unnest(CAST(:devices AS uuid[]), CAST(:whatsapp_ids AS text[])) AS k(device_id, whatsapp_id)
    WHERE r.device_id = k.device_id AND r.whatsapp_id = k.whatsapp_id
    RETURNING r.device_id, r.whatsapp_id, r.kind, r.received_at
""")

LONGEST_ID = 200
"""Characters of WhatsApp's id of a message, which usually has some twenty."""

Row = tuple[UUID, str, str, datetime]


@dataclass(frozen=True, slots=True)
class Raised:
    """What receipts did: changes to count, attempts that nobody had known to be sent, and receipts that fit no attempt."""

    changes: list[Change] = field(default_factory=list)
    proven: list[Attempt] = field(default_factory=list)
    unmatched: list[Row] = field(default_factory=list)


def _columns(rows: Sequence[Row]) -> dict[str, list[object]]:
    return {
        "devices": [row[0] for row in rows],
        "whatsapp_ids": [row[1] for row in rows],
        "kinds": [row[2] for row in rows],
        "times": [row[3] for row in rows],
    }


async def apply_receipts(session: AsyncSession, receipts: Sequence[Receipt], *, store_chats: bool = False) -> None:
    """Raise the messages that receipts speak of and keep the receipts that fit none yet; the caller commits.

    With `store_chats`, attempts that are proven to be sent by it are shown in the chats of their devices, and messages that
    accounts sent from their phones are raised too.
    """
    rows: list[Row] = sorted((r.device_id, r.whatsapp_id, r.kind.value, r.at) for r in receipts if _is_id(r.whatsapp_id))
    raised = await _raise_messages(session, rows)
    changes, proven, early = raised.changes, raised.proven, raised.unmatched
    if early:
        await hold_lanes(session, {row[0] for row in early})
        raised = await _raise_messages(session, early)
        changes, proven, early = changes + raised.changes, proven + raised.proven, raised.unmatched
    if store_chats:
        await show_sent(session, proven)
        from_phones = await tick_sent(session, early)
        early = [row for row in early if (row[0], row[1]) not in from_phones]
    if early:
        await session.execute(_KEEP, _columns(early))
    await change_counters(session, changes)


def _is_id(whatsapp_id: str) -> bool:
    """Whether it can be the id of a message at all: what fits no column would keep all other receipts waiting."""
    return len(whatsapp_id) <= LONGEST_ID and "\0" not in whatsapp_id


async def hold_lanes(session: AsyncSession, device_ids: Iterable[UUID]) -> None:
    """Keep everyone else from keeping or joining receipts of these devices until the transaction ends."""
    await session.execute(_HOLD_LANES, {"devices": sorted(device_ids)})


async def join_early_receipts(session: AsyncSession, attempts: Sequence[tuple[UUID, str]]) -> Raised:
    """Apply the receipts that came before the record of these (device, WhatsApp id); the caller counts the changes.

    The caller has written the ids and holds the rows of the devices' lanes since before it did.
    """
    if not attempts:
        return Raised()
    taken = await session.execute(
        _TAKE, {"devices": [device for device, _ in attempts], "whatsapp_ids": [whatsapp_id for _, whatsapp_id in attempts]}
    )
    rows: list[Row] = sorted((row.device_id, row.whatsapp_id, row.kind, row.received_at) for row in taken)
    return await _raise_messages(session, rows) if rows else Raised()


async def _raise_messages(session: AsyncSession, rows: Sequence[Row]) -> Raised:
    found = (await session.execute(_RAISE, _columns(rows))).all()
    matched = {(row.device_id, row.whatsapp_id) for row in found if row.what == "matched"}
    raised = [row for row in found if row.what == "raised"]
    await announce_receipts(session, raised)
    return Raised(
        changes=[Change.of(row) for row in raised],
        proven=[(row.message_id, row.attempt) for row in found if row.what == "proven"],
        unmatched=[row for row in rows if (row[0], row[1]) not in matched],
    )
