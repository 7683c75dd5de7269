"""Chats hear of the ledger: what Siaran has sent is shown in them, and how far messages of the account's phone have got."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

Attempt = tuple[int, int]
"""A message of the ledger and the number of an attempt."""

Tick = tuple[UUID, str, str, datetime]
"""A receipt: device, WhatsApp's id of the message, kind, time."""

# Chats are locked first, in their order, like everywhere: counting them makes it so. WhatsApp's times are whole seconds: an
# answer within the same one is not to stand before its question. Nobody has looked at the chat, so what is unread stays so.
_SHOW = text("""
    WITH said AS MATERIALIZED (
        SELECT a.device_id, a.user_id, m.recipient_phone, a.whatsapp_id, a.content, a.media_url,
            nullif(coalesce(c.message_type, s.message_type, m.message_type), 'text') AS kind,
            date_trunc('second', a.attempted_at) AS at
        FROM unnest(CAST(:messages AS bigint[]), CAST(:attempts AS int[])) AS k(message_id, attempt)
        JOIN message_attempts a ON a.message_id = k.message_id AND a.attempt = k.attempt
        JOIN broadcast_messages m ON m.id = k.message_id AND m.user_id = a.user_id
        LEFT JOIN campaigns c ON c.id = m.campaign_id AND c.user_id = m.user_id
        LEFT JOIN sequence_steps s ON s.id = m.step_id AND s.user_id = m.user_id
        WHERE a.outcome = 'sent' AND a.whatsapp_id IS NOT NULL
    ), shown AS (
        INSERT INTO whatsapp_chats (
            device_id, user_id, chat_id, name, last_message, last_message_at, unread, is_group, is_muted
        )
        SELECT DISTINCT ON (device_id, recipient_phone) device_id, user_id, recipient_phone, '', left(
                CASE WHEN content = '' OR kind IN ('location', 'contact', 'poll') THEN initcap(kind) ELSE content END, 200
            ), at, 0, false, false
        FROM said ORDER BY device_id, recipient_phone, at DESC
        ON CONFLICT (device_id, chat_id) DO UPDATE SET
            last_message = excluded.last_message, last_message_at = excluded.last_message_at
        WHERE whatsapp_chats.last_message_at IS NULL OR whatsapp_chats.last_message_at <= excluded.last_message_at
        RETURNING 1
    )
    INSERT INTO whatsapp_messages (
        device_id, user_id, chat_id, message_id, is_outgoing, text, media_type, media_url, sender, status, sent_at
    )
    SELECT device_id, user_id, recipient_phone, whatsapp_id, true, content, kind, media_url, '', '', at
    FROM said WHERE (SELECT count(*) FROM shown) >= 0
    ORDER BY device_id, recipient_phone, at
    ON CONFLICT DO NOTHING
""")

# Whether the rank rises or not: a receipt for such a message is nothing that the ledger waits for.
_TICK = text("""
    WITH news AS (
        SELECT r.device_id, r.whatsapp_id, max(CASE r.kind WHEN 'read' THEN 3 WHEN 'delivered' THEN 2 ELSE 1 END) AS rank
        FROM unnest(CAST(:devices AS uuid[]), CAST(:messages AS text[]), CAST(:kinds AS text[]))
            AS r(device_id, whatsapp_id, kind)
        GROUP BY r.device_id, r.whatsapp_id
    ), known AS MATERIALIZED (
        SELECT m.id, m.device_id, m.message_id, news.rank
        FROM news JOIN whatsapp_messages m ON m.device_id = news.device_id AND m.message_id = news.whatsapp_id
        WHERE m.is_outgoing
        ORDER BY m.id FOR NO KEY UPDATE OF m
    ), ticked AS (
        UPDATE whatsapp_messages m SET status = (ARRAY['sent', 'delivered', 'read'])[known.rank]
        FROM known
        WHERE m.id = known.id
            AND known.rank > CASE m.status WHEN 'read' THEN 3 WHEN 'delivered' THEN 2 WHEN 'sent' THEN 1 ELSE 0 END
    )
    SELECT device_id, message_id FROM known
""")


async def show_sent(session: AsyncSession, attempts: Sequence[Attempt]) -> None:
    """Show attempts that have been found to be sent in the chats of their devices; the caller commits.

    How far they get stays in the ledger. Attempts that are no such thing, and those that are shown already, change nothing.
    """
    if attempts:
        values = {"messages": [message for message, _ in attempts], "attempts": [attempt for _, attempt in attempts]}
        await session.execute(_SHOW, values)


async def tick_sent(session: AsyncSession, ticks: Sequence[Tick]) -> set[tuple[UUID, str]]:
    """Raise messages that accounts sent from their phones; returns the (device, WhatsApp id) that are such. The caller commits.

    The caller holds the rows of the devices' lanes.
    """
    if not ticks:
        return set()
    rows = await session.execute(
        _TICK,
        {
            "devices": [tick[0] for tick in ticks],
            "messages": [tick[1] for tick in ticks],
            "kinds": [tick[2] for tick in ticks],
        },
    )
    return {(row.device_id, row.message_id) for row in rows}
