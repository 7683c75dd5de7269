"""Chats are written: what contacts and groups send, what the account sends from its phone, and what the phone remembers."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.chat_lines import ID_LENGTH, NAME_LENGTH, Line, Owner, Past, read_history, read_lines, tidy
from siaran.gateway.interface import History, Incoming
from siaran.models import ChatMediaState

AT_ONCE = 1_000
"""How many messages one statement writes."""

_MIME_TYPE = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,100}", re.ASCII)

# Every writer locks the chats first, in this order, then writes messages: two never wait for each other. A chat whose row does
# not meet the WHERE is locked all the same.
_OPEN_CHATS = text("""
    INSERT INTO whatsapp_chats (device_id, user_id, chat_id, name, last_message, unread, is_group, is_muted)
    SELECT device_id, user_id, chat_id, name, '', 0, chat_id LIKE '%@g.us', false
    FROM unnest(
        CAST(:devices AS uuid[]), CAST(:users AS uuid[]), CAST(:chats AS text[]), CAST(:names AS text[])
    ) AS o(device_id, user_id, chat_id, name)
    ORDER BY device_id, chat_id
    ON CONFLICT (device_id, chat_id) DO UPDATE SET name = excluded.name
    WHERE excluded.name <> '' AND whatsapp_chats.name = ''
""")

# What the phone counted goes up to the newest message that it knew of; what came later is counted here.
_COUNT_PAST = text("""
    UPDATE whatsapp_chats c SET
        name = coalesce(nullif(p.name, ''), c.name), is_muted = p.is_muted,
        unread = CASE WHEN c.read_to_at >= p.last_at THEN c.unread ELSE p.unread + (
            SELECT count(*) FROM whatsapp_messages m
            WHERE m.user_id = p.user_id AND m.device_id = p.device_id AND m.chat_id = p.chat_id AND m.sent_at > p.last_at
                AND NOT m.is_outgoing
        ) END,
        read_to_at = greatest(c.read_to_at, p.last_at), last_message_at = coalesce(c.last_message_at, p.last_at)
    FROM unnest(
        CAST(:devices AS uuid[]), CAST(:users AS uuid[]), CAST(:chats AS text[]), CAST(:names AS text[]),
        CAST(:muted AS bool[]), CAST(:unread AS int[]), CAST(:times AS timestamptz[])
    ) AS p(device_id, user_id, chat_id, name, is_muted, unread, last_at)
    WHERE c.user_id = p.user_id AND c.device_id = p.device_id AND c.chat_id = p.chat_id
""")

# The subqueries see the messages as they were before these came.
_KEEP = text("""
    WITH fresh AS (
        INSERT INTO whatsapp_messages (
            device_id, user_id, chat_id, message_id, is_outgoing, sender, text, status, sent_at,
            media_type, media_state, media_mime_type, media_file_name, media_reference, media_try_at
        )
        SELECT device_id, user_id, chat_id, message_id, is_outgoing, sender, body,
            CASE WHEN is_outgoing THEN 'sent' ELSE '' END, at,
            kind, state, mime_type, file_name, reference, CASE WHEN state = 'waiting' THEN CAST(:now AS timestamptz) END
        FROM unnest(
            CAST(:devices AS uuid[]), CAST(:users AS uuid[]), CAST(:chats AS text[]), CAST(:messages AS text[]),
            CAST(:outgoing AS bool[]), CAST(:senders AS text[]), CAST(:texts AS text[]), CAST(:times AS timestamptz[]),
            CAST(:kinds AS text[]), CAST(:states AS text[]), CAST(:mime_types AS text[]), CAST(:file_names AS text[]),
            CAST(:references AS bytea[])
        ) WITH ORDINALITY AS l(
            device_id, user_id, chat_id, message_id, is_outgoing, sender, body, at, kind, state, mime_type, file_name,
            reference, line
        )
        ORDER BY line
        ON CONFLICT DO NOTHING
        RETURNING id, device_id, user_id, chat_id, is_outgoing, sent_at,
            left(coalesce(nullif(text, ''), initcap(media_type)), 200) AS preview
    ), news AS MATERIALIZED (
        SELECT device_id, user_id, chat_id, max(sent_at) AS last_at,
            (array_agg(preview ORDER BY sent_at DESC, id DESC))[1] AS preview,
            max(sent_at) FILTER (WHERE is_outgoing) AS written_at
        FROM fresh GROUP BY device_id, user_id, chat_id
    ), changed AS MATERIALIZED (
        SELECT c.id, news.*, greatest(c.read_to_at, news.written_at) AS read_to_at,
            news.last_at >= c.last_message_at OR c.last_message_at IS NULL OR c.last_message = '' AS is_last,
            CASE WHEN news.written_at > c.read_to_at OR c.read_to_at IS NULL AND news.written_at IS NOT NULL THEN (
                SELECT count(*) FROM whatsapp_messages m
                WHERE m.user_id = news.user_id AND m.device_id = news.device_id AND m.chat_id = news.chat_id
                    AND m.sent_at > news.written_at AND NOT m.is_outgoing
            ) ELSE c.unread END AS unread
        FROM news JOIN whatsapp_chats c ON c.device_id = news.device_id AND c.chat_id = news.chat_id
    )
    UPDATE whatsapp_chats c SET
        last_message = CASE WHEN n.is_last THEN n.preview ELSE c.last_message END,
        last_message_at = CASE WHEN n.is_last THEN n.last_at ELSE c.last_message_at END,
        unread = n.unread + (
            SELECT count(*) FROM fresh f
            WHERE :counts AND f.device_id = n.device_id AND f.chat_id = n.chat_id AND NOT f.is_outgoing
                AND (n.read_to_at IS NULL OR f.sent_at > n.read_to_at)
        ),
        read_to_at = n.read_to_at
    FROM changed n WHERE c.id = n.id
""")

# Receipts may have been written before the message that the account's phone told of.
_TICK = text("""
    UPDATE whatsapp_messages m SET status = (ARRAY['sent', 'delivered', 'read'])[t.rank]
    FROM (
        SELECT r.device_id, r.whatsapp_id, max(CASE r.kind WHEN 'read' THEN 3 WHEN 'delivered' THEN 2 ELSE 1 END) AS rank
        FROM unnest(CAST(:devices AS uuid[]), CAST(:messages AS text[])) AS k(device_id, message_id)
        JOIN message_receipts r ON r.device_id = k.device_id AND r.whatsapp_id = k.message_id
        GROUP BY r.device_id, r.whatsapp_id
    ) t
    WHERE m.device_id = t.device_id AND m.message_id = t.whatsapp_id AND m.is_outgoing
        AND t.rank > CASE m.status WHEN 'read' THEN 3 WHEN 'delivered' THEN 2 ELSE 1 END
""")


ChatKey = tuple[UUID, str]


async def keep_chats(
    session: AsyncSession, events: Sequence[Incoming | History], owners: Mapping[UUID, Owner], now: datetime
) -> None:
    """Write down the messages of chats, and what that makes of the chats; the caller commits.

    Personal chats and groups are kept; status updates, broadcast lists and channels are not. A message that is there already
    changes nothing, and it does not matter in which order messages come: `unread` counts those of contacts that are later
    than the last one that the account wrote itself; of old ones the phone has counted those. Where events are `from_me`, the
    caller holds the rows of their devices' lanes, so that no receipt is missed.
    """
    live = read_lines((event for event in events if isinstance(event, Incoming)), owners, now)
    old: list[Line] = []
    pasts: dict[ChatKey, Past] = {}
    for event in events:
        if isinstance(event, History):
            lines, chats = read_history(event, owners, now)
            old += lines
            for past in chats:
                known = pasts.get((past.device_id, past.chat_id))
                if known is None or known.last_at < past.last_at:
                    pasts[past.device_id, past.chat_id] = past
    await _open_chats(session, [*old, *live], pasts)
    await _count_past(session, list(pasts.values()))
    for some in _batches(old):
        await _keep(session, some, now, counts=False)
    for some in _batches(live):
        await _keep(session, some, now, counts=True)
    if sent := [line for line in live if line.is_outgoing]:
        await session.execute(
            _TICK, {"devices": [line.device_id for line in sent], "messages": [line.message_id for line in sent]}
        )


def _batches(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    return (lines[start : start + AT_ONCE] for start in range(0, len(lines), AT_ONCE))


async def _open_chats(session: AsyncSession, lines: Sequence[Line], pasts: Mapping[ChatKey, Past]) -> None:
    """Lock the chats that the messages and counts belong to; those that are new begin empty."""
    owners = {key: past.user_id for key, past in pasts.items()}
    names: dict[ChatKey, str] = {}
    for line in lines:
        key = line.device_id, line.chat_id
        owners[key] = line.user_id
        names[key] = line.name or names.get(key, "")
    if not owners:
        return
    chats = sorted(owners)
    await session.execute(
        _OPEN_CHATS,
        {
            "devices": [device for device, _ in chats],
            "users": [owners[key] for key in chats],
            "chats": [chat for _, chat in chats],
            "names": [names.get(key, "") for key in chats],
        },
    )


async def _count_past(session: AsyncSession, pasts: Collection[Past]) -> None:
    if not pasts:
        return
    await session.execute(
        _COUNT_PAST,
        {
            "devices": [past.device_id for past in pasts],
            "users": [past.user_id for past in pasts],
            "chats": [past.chat_id for past in pasts],
            "names": [past.name for past in pasts],
            "muted": [past.is_muted for past in pasts],
            "unread": [past.unread for past in pasts],
            "times": [past.last_at for past in pasts],
        },
    )


async def _keep(session: AsyncSession, lines: Sequence[Line], now: datetime, *, counts: bool) -> None:
    await session.execute(
        _KEEP,
        {
            "now": now,
            "counts": counts,
            "devices": [line.device_id for line in lines],
            "users": [line.user_id for line in lines],
            "chats": [line.chat_id for line in lines],
            "messages": [line.message_id for line in lines],
            "outgoing": [line.is_outgoing for line in lines],
            "senders": [line.sender for line in lines],
            "texts": [line.text for line in lines],
            "times": [line.at for line in lines],
            "kinds": [line.media and tidy(line.media.kind, ID_LENGTH) for line in lines],
            "states": [line.state and line.state.value for line in lines],
            "mime_types": [line.media and _mime_type(line.media.mime_type) for line in lines],
            "file_names": [line.media and tidy(line.media.file_name, NAME_LENGTH) for line in lines],
            "references": [
                line.media.reference if line.media is not None and line.state is ChatMediaState.WAITING else None
                for line in lines
            ],
        },
    )


def _mime_type(raw: str) -> str:
    """What the sender calls the file's type, where it is one: it becomes a header."""
    name = raw.partition(";")[0].strip().lower()
    return name if _MIME_TYPE.fullmatch(name) else "application/octet-stream"
