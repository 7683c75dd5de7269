"""Automatic replies: one message to who writes to a device, and no other to the same contact for a quiet period."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

FRESH = timedelta(hours=1)
"""Messages older than this are not answered: they were written while the device was away."""

# Several hosts may hear from a contact at once: whoever comes second waits for the first one's row, and sees that it was
# answered. A reply that is still to be sent, or was sent late, counts from when it was sent.
_TAKE = text("""
    WITH heard AS (
        SELECT DISTINCT ON (h.user_id, h.phone) h.user_id, h.phone, h.device_id
        FROM unnest(CAST(:users AS uuid[]), CAST(:phones AS text[]), CAST(:devices AS uuid[]), CAST(:times AS timestamptz[]))
            AS h(user_id, phone, device_id, at)
        WHERE h.at > :fresh
        ORDER BY h.user_id, h.phone, h.at DESC
    ), wanted AS MATERIALIZED (
        SELECT heard.*, coalesce(u.auto_reply, :default) AS reply FROM heard
        JOIN users u ON u.id = heard.user_id AND u.is_active
        JOIN user_devices d ON d.id = heard.device_id AND d.user_id = heard.user_id AND d.is_active AND d.deleted_at IS NULL
        WHERE coalesce(u.auto_reply, :default) <> ''
            AND NOT EXISTS (
                SELECT FROM suppressions x
                WHERE x.user_id = heard.user_id AND x.phone = heard.phone AND x.lifted_at IS NULL
            )
            AND NOT EXISTS (SELECT FROM user_devices o WHERE o.user_id = heard.user_id AND o.phone = heard.phone)
    ), taken AS (
        INSERT INTO auto_replies AS r (user_id, phone, replied_at)
        SELECT user_id, phone, :now FROM wanted ORDER BY user_id, phone
        ON CONFLICT (user_id, phone) DO UPDATE SET replied_at = excluded.replied_at, message_id = NULL
        WHERE greatest(r.replied_at, (SELECT m.sent_at FROM broadcast_messages m WHERE m.id = r.message_id))
                <= excluded.replied_at - (SELECT make_interval(mins => auto_reply_minutes) FROM users WHERE id = r.user_id)
            AND NOT EXISTS (SELECT FROM broadcast_messages m WHERE m.id = r.message_id AND m.status IN ('pending', 'claimed'))
        RETURNING user_id, phone
    )
    SELECT wanted.user_id, wanted.phone, wanted.device_id, wanted.reply FROM wanted JOIN taken USING (user_id, phone)
""")

_QUEUE = text("""
    WITH queued AS (
        INSERT INTO broadcast_messages
            (user_id, device_id, source, recipient_phone, recipient_name, recipient_niche, message_type, content, status,
                cycle, scheduled_at)
        SELECT q.user_id, q.device_id, '!', q.phone, coalesce(l.name, ''), coalesce(l.niche, ''), 'text', q.reply, 'pending',
            0, :now
        FROM unnest(CAST(:users AS uuid[]), CAST(:phones AS text[]), CAST(:devices AS uuid[]), CAST(:replies AS text[]))
            AS q(user_id, phone, device_id, reply)
        LEFT JOIN leads l ON l.user_id = q.user_id AND l.phone = q.phone
        RETURNING id, user_id, recipient_phone
    )
    UPDATE auto_replies r SET message_id = queued.id
    FROM queued WHERE r.user_id = queued.user_id AND r.phone = queued.recipient_phone
""")


@dataclass(frozen=True, slots=True)
class Heard:
    """That a contact has written something to a device, in a personal chat."""

    user_id: UUID
    device_id: UUID
    phone: str
    at: datetime


async def reply_automatically(session: AsyncSession, heard: Sequence[Heard], default: str, now: datetime) -> set[UUID]:
    """Queue a reply for each contact who may get one; the caller commits, and wakes the lanes of the devices returned.

    `default` is the text for users who have set none of their own. Nobody is answered who has opted out, whose message is older
    than `FRESH`, who was answered within the user's quiet period by any of the user's devices, or whose phone is one of these.
    """
    if not heard:
        return set()
    columns = {
        "users": [message.user_id for message in heard],
        "phones": [message.phone for message in heard],
        "devices": [message.device_id for message in heard],
        "times": [message.at for message in heard],
    }
    found = await session.execute(_TAKE, {**columns, "default": default.strip(), "fresh": now - FRESH, "now": now})
    taken = found.all()
    if not taken:
        return set()
    await session.execute(
        _QUEUE,
        {
            "users": [row.user_id for row in taken],
            "phones": [row.phone for row in taken],
            "devices": [row.device_id for row in taken],
            "replies": [row.reply for row in taken],
            "now": now,
        },
    )
    return {row.device_id for row in taken}
