"""What contacts write to devices: who has written when, who has replied, and who asks to be left alone."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note
from siaran.auto_replies import reply_automatically
from siaran.chat_writing import keep_chats
from siaran.gateway.interface import History, Incoming
from siaran.heard_messages import HeardMessage, hear, note_heard, read_owners
from siaran.leaving import leave_on_opt_out, leave_on_reply
from siaran.ledger.receipts import hold_lanes
from siaran.models import ONE_OFF, BroadcastMessage
from siaran.opt_out_words import find_word
from siaran.webhook_news import announce_messages, announce_opt_outs

KEPT = timedelta(days=35)
"""WhatsApp holds a message for a device that is away for 30 days."""

FORGOTTEN_AT_ONCE = 10_000

_TOUCH_LEADS = text("""
    WITH news AS (
        SELECT n.user_id, n.phone, max(n.at) AS at
        FROM unnest(CAST(:users AS uuid[]), CAST(:phones AS text[]), CAST(:times AS timestamptz[])) AS n(user_id, phone, at)
        GROUP BY n.user_id, n.phone
    ), held AS MATERIALIZED (
        SELECT l.id, news.at FROM leads l
        JOIN news ON news.user_id = l.user_id AND news.phone = l.phone
        WHERE l.last_interaction IS NULL OR l.last_interaction < news.at
        ORDER BY l.id FOR NO KEY UPDATE OF l
    )
    UPDATE leads l SET last_interaction = greatest(l.last_interaction, held.at) FROM held WHERE l.id = held.id
""")

# The campaign whose message the contact had been sent last is the one that the opt-out is counted against.
_SUPPRESS = text("""
    INSERT INTO suppressions (user_id, phone, reason, source, device_id, campaign_id, confirmed_at, created_at)
    SELECT a.user_id, a.phone, a.word, 'reply', a.device_id, (
            SELECT m.campaign_id FROM broadcast_messages m
            WHERE m.user_id = a.user_id AND m.recipient_phone = a.phone AND m.campaign_id IS NOT NULL
                AND m.status IN ('claimed', 'sent', 'delivered', 'read', 'unknown')
            ORDER BY coalesce(m.sent_at, m.claimed_at) DESC NULLS LAST, m.id DESC LIMIT 1
        ), CASE WHEN a.is_answered THEN CAST(:now AS timestamptz) END, :now
    FROM unnest(
        CAST(:users AS uuid[]), CAST(:phones AS text[]), CAST(:words AS text[]), CAST(:devices AS uuid[]),
        CAST(:answered AS bool[])
    ) AS a(user_id, phone, word, device_id, is_answered)
    ORDER BY a.user_id, a.phone
    ON CONFLICT (user_id, phone) WHERE lifted_at IS NULL DO NOTHING
    RETURNING id, user_id, phone, device_id, confirmed_at
""")

_COUNT_REPLIES = text("""
    INSERT INTO message_analytics (device_id, user_id, day, replied)
    SELECT r.device_id, r.user_id, r.day, count(*)
    FROM unnest(CAST(:devices AS uuid[]), CAST(:users AS uuid[]), CAST(:days AS date[])) AS r(device_id, user_id, day)
    GROUP BY r.device_id, r.user_id, r.day
    ORDER BY r.device_id, r.day
    ON CONFLICT (device_id, day) DO UPDATE SET replied = message_analytics.replied + excluded.replied
""")

_FORGET_RECEIPTS = text("""
    DELETE FROM message_receipts WHERE (device_id, whatsapp_id, kind) IN (
        SELECT device_id, whatsapp_id, kind FROM message_receipts WHERE received_at < :before LIMIT :most
    )
""")

_FORGET = text("""
    DELETE FROM incoming_messages WHERE (device_id, sender, whatsapp_id) IN (
        SELECT device_id, sender, whatsapp_id FROM incoming_messages WHERE received_at < :before LIMIT :most
    )
""")


async def take_in(
    session: AsyncSession,
    events: Sequence[Incoming | History],
    now: datetime,
    *,
    store_chats: bool = False,
    auto_reply: str = "",
    webhook_defaults: Sequence[str] = (),
) -> set[UUID]:
    """Write down what contacts have sent to devices; the caller commits.

    Notes when each lead was last heard of, counts who has replied (once per device, contact and day), and suppresses who asks
    to be left alone, with a confirmation queued where the user wants one, and the others may get an automatic reply, which is
    `auto_reply` where the user has set none of their own. A message that was taken in before changes nothing.
    Only personal chats count, and neither the account's own messages nor its history ever do. With `store_chats` all of it is
    kept in the chats. Webhooks are told, `webhook_defaults` for users who have none. Returns the devices whose lanes to wake.
    """
    owners = await read_owners(session, {event.device_id for event in events})
    incoming = [event for event in events if isinstance(event, Incoming)]
    if store_chats:
        await _hold_writing_lanes(session, incoming)
    heard = {message.key: message for event in incoming if (message := hear(event, owners, now)) is not None}
    fresh, replies = await note_heard(session, heard)
    woken = await _heed(session, fresh, now)
    to_answer = [message.to_answer for message in fresh if message.says_something]
    woken |= await reply_automatically(session, to_answer, auto_reply, now)
    new = {message.key for message in fresh}
    await announce_messages(session, [one.news for one in heard.values() if one.key in new], webhook_defaults)
    # Whoever records what was sent locks in this order, too: messages, chats, counters.
    if store_chats:
        await keep_chats(session, events, owners, now)
    await _count_replies(session, replies)
    return woken


async def _hold_writing_lanes(session: AsyncSession, incoming: Iterable[Incoming]) -> None:
    """Keep receipts of messages that accounts have sent from their phones from being written at the same time."""
    if devices := {event.device_id for event in incoming if event.from_me}:
        await hold_lanes(session, devices)


async def _heed(session: AsyncSession, fresh: Sequence[HeardMessage], now: datetime) -> set[UUID]:
    """What follows from messages that are new; returns the devices whose lanes to wake."""
    if not fresh:
        return set()
    await session.execute(
        _TOUCH_LEADS,
        {
            "users": [message.owner.user_id for message in fresh],
            "phones": [message.phone for message in fresh],
            "times": [message.at for message in fresh],
        },
    )
    woken = await _suppress(session, fresh, now)
    await _leave_sequences(session, fresh, now)
    return woken


async def _count_replies(session: AsyncSession, replies: Sequence[HeardMessage]) -> None:
    if replies:
        await session.execute(
            _COUNT_REPLIES,
            {
                "devices": [reply.device_id for reply in replies],
                "users": [reply.owner.user_id for reply in replies],
                "days": [reply.day for reply in replies],
            },
        )


async def forget_incoming(session: AsyncSession, now: datetime) -> None:
    """Remove the traces of messages that cannot be delivered again, and receipts that nothing will fit any more.

    A bounded number at a time; the caller commits.
    """
    for forget in (_FORGET, _FORGET_RECEIPTS):
        await session.execute(forget, {"before": now - KEPT, "most": FORGOTTEN_AT_ONCE})


async def _leave_sequences(session: AsyncSession, fresh: Sequence[HeardMessage], now: datetime) -> None:
    """Take who has written, or asked to be left alone, out of the sequences that heed it."""
    asked = [message for message in fresh if find_word(message.text, message.owner.words) is not None]
    await leave_on_opt_out(session, [(message.owner.user_id, message.phone) for message in asked], now)
    await leave_on_reply(session, [(message.owner.user_id, message.phone) for message in fresh], now)


async def _suppress(session: AsyncSession, fresh: Sequence[HeardMessage], now: datetime) -> set[UUID]:
    """Suppress who asks for it and queue the confirmations; returns the devices that have one to send."""
    asked = [(message, word) for message in fresh if (word := find_word(message.text, message.owner.words)) is not None]
    if not asked:
        return set()
    found = await session.execute(
        _SUPPRESS,
        {
            "users": [message.owner.user_id for message, _ in asked],
            "phones": [message.phone for message, _ in asked],
            "words": [word for _, word in asked],
            "devices": [message.device_id for message, _ in asked],
            "answered": [bool(message.owner.answer) for message, _ in asked],
            "now": now,
        },
    )
    rows = found.all()
    for row in rows:
        note(session, row.user_id, "opt_out.received", f"opt_out:{row.id}", device_id=row.device_id)
    replied = {(message.owner.user_id, message.phone): word for message, word in asked}
    await announce_opt_outs(session, [(row.user_id, row.phone) for row in rows], now, words=replied)
    to_confirm = [row for row in rows if row.confirmed_at is not None]
    if not to_confirm:
        return set()
    answers = {message.device_id: message.owner.answer for message, _ in asked}
    confirmations = [
        {
            "user_id": row.user_id,
            "device_id": row.device_id,
            "source": ONE_OFF,
            "recipient_phone": row.phone,
            "content": answers[row.device_id],
            "ignores_opt_out": True,
            "scheduled_at": now,
        }
        for row in to_confirm
    ]
    await session.execute(insert(BroadcastMessage), confirmations)
    return {row.device_id for row in to_confirm}
