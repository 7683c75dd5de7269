"""Chats of a device as its owner sees them: the list, the messages, what is unread, and what people are called."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.chat_lines import NAME_LENGTH, chat_address, tidy
from siaran.errors import NotFound
from siaran.message_contents import describe_content
from siaran.models import BroadcastMessage, Chat, ChatMediaState, ChatMessage, Lead, MessageAttempt, MessageStatus
from siaran.phone import read_digits, spell_phone
from siaran.tenancy import get_owned, select_owned

_SHORTEST_PHONE_PART = 3

_TICKS = {MessageStatus.DELIVERED: "delivered", MessageStatus.READ: "read"}
"""What a message of the ledger shows; it stands in a chat only once it was sent."""

_MARK_READ = text("""
    UPDATE whatsapp_chats SET unread = 0, read_to_at = greatest(read_to_at, last_message_at)
    WHERE user_id = :user AND device_id = :device AND chat_id = :chat
""")

_NAME = text("""
    WITH held AS MATERIALIZED (
        SELECT c.id, n.name
        FROM unnest(CAST(:chats AS text[]), CAST(:names AS text[])) AS n(chat_id, name)
        JOIN whatsapp_chats c ON c.device_id = :device AND c.chat_id = n.chat_id AND c.user_id = :user
        WHERE c.name <> n.name
        ORDER BY c.chat_id FOR NO KEY UPDATE OF c
    )
    UPDATE whatsapp_chats c SET name = held.name FROM held WHERE c.id = held.id
""")

_PICTURE = text("""
    WITH held AS MATERIALIZED (
        SELECT c.id, p.url
        FROM unnest(CAST(:chats AS text[]), CAST(:urls AS text[])) AS p(chat_id, url)
        JOIN whatsapp_chats c ON c.device_id = :device AND c.chat_id = p.chat_id AND c.user_id = :user
        ORDER BY c.chat_id FOR NO KEY UPDATE OF c
    )
    UPDATE whatsapp_chats c SET avatar_url = held.url FROM held WHERE c.id = held.id
""")


@dataclass(frozen=True, slots=True)
class ChatView:
    """A chat in the list; `row_id` is what pages are told apart by, `id` the number or the address of the group."""

    row_id: int
    id: str
    name: str
    last_message: str
    last_message_at: datetime
    unread: int
    avatar_url: str | None
    is_group: bool
    is_muted: bool


@dataclass(frozen=True, slots=True)
class ChatLine:
    """A message of a chat; `sender` is who wrote it, empty for the account itself, `status` how far it got.

    `media_type` also names what a message is that carries no file, such as `location`; `text` then says it in words.
    """

    row_id: int
    id: str
    text: str
    is_outgoing: bool
    sender: str
    sent_at: datetime
    status: str
    media_type: str | None
    media_url: str | None
    media_state: ChatMediaState | None
    media_mime_type: str | None
    media_file_name: str | None


async def list_chats(
    session: AsyncSession, user_id: UUID, device_id: UUID, *, wanted: str = "", limit: int, before: tuple[datetime, int] | None
) -> list[ChatView]:
    """A device's chats in which `wanted` is named or was said last, newest first, beginning behind (`last_message_at`, id)."""
    lead = and_(Lead.user_id == user_id, Lead.phone == Chat.chat_id)
    query = (
        select(Chat, Lead.name)
        .outerjoin(Lead, lead)
        .where(Chat.user_id == user_id, Chat.device_id == device_id, Chat.last_message_at.is_not(None))
    )
    if before is not None:
        query = query.where(tuple_(Chat.last_message_at, Chat.id) < tuple_(*before))
    if plain := " ".join(wanted.replace("\0", "").split()):
        query = query.where(_mentions(plain))
    query = query.order_by(Chat.last_message_at.desc(), Chat.id.desc()).limit(limit)
    return [_chat(chat, lead_name) for chat, lead_name in await session.execute(query)]


def _mentions(wanted: str) -> ColumnElement[bool]:
    digits = re.sub(r"\D", "", wanted, flags=re.ASCII).lstrip("0")
    found = [column.icontains(wanted, autoescape=True) for column in (Chat.name, Lead.name, Chat.last_message)]
    if re.fullmatch(r"[+\d\s().-]+", wanted, flags=re.ASCII) and len(digits) >= _SHORTEST_PHONE_PART:
        found.append(Chat.chat_id.contains(digits))
    return or_(*found)


def _chat(chat: Chat, lead_name: str | None) -> ChatView:
    assert chat.last_message_at is not None  # noqa: S101 -- the query leaves out what is empty
    return ChatView(
        row_id=chat.id,
        id=chat.chat_id,
        name=lead_name or chat.name or (chat.chat_id if "@" in chat.chat_id else spell_phone(chat.chat_id)),
        last_message=chat.last_message,
        last_message_at=chat.last_message_at,
        unread=chat.unread,
        avatar_url=chat.avatar_url,
        is_group=chat.is_group,
        is_muted=chat.is_muted,
    )


async def get_chat(session: AsyncSession, user_id: UUID, device_id: UUID, chat_id: str) -> Chat:
    """A chat of a user's device; raises `NotFound`."""
    return await get_owned(session, Chat, user_id, Chat.device_id == device_id, Chat.chat_id == chat_id)


async def list_lines(
    session: AsyncSession, user_id: UUID, device_id: UUID, chat_id: str, *, limit: int, before: tuple[datetime, int] | None
) -> list[ChatLine]:
    """The messages of a chat, newest first, beginning behind (`sent_at`, id); the ledger says how far Siaran's own got."""
    attempt = (
        select(MessageAttempt.message_id)
        .where(
            MessageAttempt.device_id == ChatMessage.device_id,
            MessageAttempt.whatsapp_id == ChatMessage.message_id,
            MessageAttempt.user_id == user_id,
            ChatMessage.is_outgoing,
        )
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(ChatMessage, BroadcastMessage.status)
        .outerjoin(BroadcastMessage, and_(BroadcastMessage.id == attempt, BroadcastMessage.user_id == user_id))
        .where(ChatMessage.user_id == user_id, ChatMessage.device_id == device_id, ChatMessage.chat_id == chat_id)
    )
    if before is not None:
        query = query.where(tuple_(ChatMessage.sent_at, ChatMessage.id) < tuple_(*before))
    query = query.order_by(ChatMessage.sent_at.desc(), ChatMessage.id.desc()).limit(limit)
    return [_line(line, status) for line, status in await session.execute(query)]


def _line(line: ChatMessage, ledger_status: MessageStatus | None) -> ChatLine:
    return ChatLine(
        row_id=line.id,
        id=line.message_id,
        text=describe_content(line.media_type or "text", line.text) if line.is_outgoing else line.text,
        is_outgoing=line.is_outgoing,
        sender=line.sender,
        sent_at=line.sent_at,
        status=_status(line, ledger_status),
        media_type=line.media_type,
        media_url=line.media_url,
        media_state=line.media_state,
        media_mime_type=line.media_mime_type,
        media_file_name=line.media_file_name,
    )


def _status(line: ChatMessage, ledger_status: MessageStatus | None) -> str:
    if not line.is_outgoing:
        return "received"
    return (line.status or "sent") if ledger_status is None else _TICKS.get(ledger_status, "sent")


async def mark_read(session: AsyncSession, user_id: UUID, device_id: UUID, chat_id: str) -> None:
    """Count nothing as unread any more of what has come so far; raises `NotFound`."""
    await get_chat(session, user_id, device_id, chat_id)
    await session.execute(_MARK_READ, {"user": user_id, "device": device_id, "chat": chat_id})


async def newest_chats(session: AsyncSession, user_id: UUID, device_id: UUID, most: int) -> Sequence[str]:
    """The ids of the chats in which something was said last."""
    query = select_owned(Chat, user_id).with_only_columns(Chat.chat_id).where(Chat.device_id == device_id)
    query = query.where(Chat.last_message_at.is_not(None)).order_by(Chat.last_message_at.desc(), Chat.id.desc()).limit(most)
    return (await session.scalars(query)).all()


async def name_chats(session: AsyncSession, user_id: UUID, device_id: UUID, names: Mapping[str, str], *, country: str) -> int:
    """Call chats what the account's contacts call them; returns how many are called differently now. The caller commits."""
    known: dict[str, str] = {}
    for raw, name in names.items():
        chat_id, called = chat_address(raw, country), tidy(name, NAME_LENGTH).strip()
        if chat_id is not None and called:
            known[chat_id] = called
    found = await session.execute(
        _NAME, {"user": user_id, "device": device_id, "chats": list(known), "names": list(known.values())}
    )
    return found.rowcount  # type: ignore[attr-defined, no-any-return]  # an UPDATE's cursor


async def picture_chats(session: AsyncSession, user_id: UUID, device_id: UUID, urls: Mapping[str, str | None]) -> None:
    """Note where the pictures of chats can be read now; the caller commits."""
    values = {"chats": list(urls), "urls": list(urls.values())}
    await session.execute(_PICTURE, {"user": user_id, "device": device_id, **values})


def parse_chat_id(raw: str, country: str) -> str:
    """The id of a chat as callers write it, also `60123456789@s.whatsapp.net`; raises `NotFound` for what names none."""
    bare = raw.strip().removesuffix("@s.whatsapp.net").removeprefix("+")
    chat_id = read_digits(bare, country) if "@" not in bare else chat_address(bare, country)
    if chat_id is None:
        raise NotFound("no such chat")
    return chat_id
