"""Chats of a device: the list, the messages, their files, and what is unread."""

from datetime import datetime
from typing import Annotated, Self
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.auth import UserDep
from api.context import ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from api.routes.media import UNTRUSTED
from siaran import chats
from siaran.chat_media import read_file
from siaran.chat_notices import announce_chats
from siaran.chat_sync import sync_chats
from siaran.devices import get_device
from siaran.host_reads import HostReader
from siaran.models import ChatMediaState

router = APIRouter(tags=["chats"])

DeviceId = Annotated[UUID, Path(description="One of your devices.")]
ChatId = Annotated[
    str, Path(max_length=100, description="The chat's `id`: the other side's number, or the address of a group (`…@g.us`).")
]
MessageId = Annotated[int, Path(ge=1, lt=2**63, description="The number in the message's `mediaUrl`.")]

SHOWN = frozenset(
    {
        "image/jpeg", "image/png", "image/webp", "image/gif", "video/mp4", "video/3gpp",
        "audio/ogg", "audio/mpeg", "audio/mp4", "audio/aac", "audio/amr",
    }
)  # fmt: skip
"""What a browser may show or play; anything else is saved, whatever its sender says that it is."""


class ChatView(BaseModel):
    """A chat of a device."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str = Field(description="The other side's number, or the address of a group.", examples=["60123456789"])
    name: str = Field(description="The lead's name, else what WhatsApp knows, else the number.")
    last_message: str = Field(description="The beginning of the newest message, or what kind of file it is.")
    time: datetime = Field(description="When that was sent.")
    unread: int = Field(description="Messages from the other side since the account wrote itself, or since it was read.")
    avatar: str | None = Field(description="Where WhatsApp has the picture for some time; looked up by a sync.")
    is_group: bool
    is_muted: bool = Field(description="As the phone had it when the device was linked.")

    @classmethod
    def of(cls, chat: chats.ChatView) -> Self:
        """A chat in the list."""
        return cls(
            id=chat.id,
            name=chat.name,
            last_message=chat.last_message,
            time=chat.last_message_at,
            unread=chat.unread,
            avatar=chat.avatar_url,
            is_group=chat.is_group,
            is_muted=chat.is_muted,
        )


class ChatMessageView(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str = Field(description="WhatsApp's id of it.")
    text: str = Field(description="The text or caption.")
    sent: bool = Field(description="Whether the account wrote it, by Siaran or on a phone.")
    time: datetime
    status: str = Field(description="`sent`, `delivered` or `read`; `received` if the other side wrote it.")
    media_type: str | None = Field(description="`image`, `video`, `audio`, `document`, `sticker`, `location` and so on.")
    media_url: str | None = Field(description="Where to read the file, once it is here.")
    media_state: ChatMediaState | None = Field(description="What has become of a file that came in.")
    media_mime_type: str | None
    media_file_name: str | None
    sender: str = Field(description="The number of who wrote it.")

    @classmethod
    def of(cls, line: chats.ChatLine, own_phone: str) -> Self:
        """A message in the chat of the account with that number."""
        return cls(
            id=line.id,
            text=line.text,
            sent=line.is_outgoing,
            time=line.sent_at,
            status=line.status,
            media_type=line.media_type,
            media_url=line.media_url,
            media_state=line.media_state,
            media_mime_type=line.media_mime_type,
            media_file_name=line.media_file_name,
            sender=own_phone if line.is_outgoing else line.sender,
        )


class ReadChat(BaseModel):
    """A chat in which nothing is unread any more."""

    id: str


class SyncedChats(BaseModel):
    """What a sync has changed."""

    names: int = Field(description="Chats that are called differently now.")
    pictures: int = Field(description="Chats whose picture was found.")


@router.get("/api/devices/{device_id}/chats")
async def get_chats(
    device_id: DeviceId,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    search: Annotated[
        str, Query(max_length=200, description="Only chats whose name, number or newest message contains this.")
    ] = "",
) -> ListEnvelope[ChatView]:
    """The chats of one of your devices, the newest message first. Kept while `WHATSAPP_CHAT_STORAGE` is on."""
    async with context.sessions.begin() as session:
        await get_device(session, user.id, device_id)
        rows = await chats.list_chats(
            session, user.id, device_id, wanted=search, limit=paging.fetch, before=paging.after(tuple[datetime, int])
        )
    page, next_cursor = paging.cut(rows, lambda chat: (chat.last_message_at, chat.row_id))
    return listed([ChatView.of(chat) for chat in page], next_cursor)


@router.get("/api/devices/{device_id}/messages/{chat_id}")
async def get_chat_messages(
    device_id: DeviceId, chat_id: ChatId, user: UserDep, context: ContextDep, paging: PagingDep
) -> ListEnvelope[ChatMessageView]:
    """The messages of a chat, newest first."""
    async with context.sessions.begin() as session:
        device = await get_device(session, user.id, device_id)
        chat = await chats.get_chat(session, user.id, device_id, chats.parse_chat_id(chat_id, user.country))
        rows = await chats.list_lines(
            session, user.id, device_id, chat.chat_id, limit=paging.fetch, before=paging.after(tuple[datetime, int])
        )
    page, next_cursor = paging.cut(rows, lambda line: (line.sent_at, line.row_id))
    return listed([ChatMessageView.of(line, device.phone) for line in page], next_cursor)


@router.post("/api/devices/{device_id}/chats/{chat_id}/read")
async def mark_chat_read(device_id: DeviceId, chat_id: ChatId, user: UserDep, context: ContextDep) -> Envelope[ReadChat]:
    """Count nothing as unread any more of what has come so far. The other side is told nothing."""
    async with context.sessions.begin() as session:
        await get_device(session, user.id, device_id)
        known = chats.parse_chat_id(chat_id, user.country)
        await chats.mark_read(session, user.id, device_id, known)
    await announce_chats(context.redis, [device_id])
    return success(ReadChat(id=known), "Chat marked as read")


@router.post("/api/devices/{device_id}/sync")
async def sync_device_chats(device_id: DeviceId, user: UserDep, context: ContextDep) -> Envelope[SyncedChats]:
    """Read the names of contacts, and the pictures of the newest chats, from WhatsApp; takes up to a minute.

    Messages need none of this: they come by themselves.
    """
    reader = HostReader(context.sessions, context.redis, context.temporal)
    synced = await sync_chats(reader, user.id, device_id, country=user.country)
    await announce_chats(context.redis, [device_id])
    return success(SyncedChats(names=synced.names, pictures=synced.pictures), "Chats synced")


@router.get("/api/chat-media/{message_id}", response_class=Response, responses={200: {"content": {"*/*": {}}}})
async def read_chat_media(message_id: MessageId, user: UserDep, context: ContextDep) -> Response:
    """The file of a message that came in."""
    async with context.sessions.begin() as session:
        file = await read_file(session, user.id, message_id)
    how = "inline" if file.mime_type in SHOWN else "attachment"
    headers = {
        "Cache-Control": "private, max-age=86400, immutable",
        "Content-Security-Policy": UNTRUSTED,
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(file.file_name or 'file', safe='')}",
    }
    return Response(file.content, media_type=file.mime_type, headers=headers)
