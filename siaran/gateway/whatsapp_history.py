"""The old chats and messages that a phone shares with a newly linked device, in pieces of bounded size."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from siaran.gateway.interface import DeviceRef, History, Incoming, PastChat
from siaran.gateway.whatsapp_contents import read_contents
from siaran.gateway.whatsapp_events import Address, PhoneOfLid, moment, own_phone, phone_of

PIECE = 200
"""Messages, or chats, in one event at most."""

_LATEST_IN_SECONDS = 100_000_000_000
"""Above, a time is in milliseconds: the phones disagree."""


async def read_history(device: DeviceRef, data: Any, phone_of_lid: PhoneOfLid, now: datetime) -> AsyncIterator[History]:
    """A `HistorySync` of the library in pieces; none if it has no chats. Each chat comes before or with its messages."""
    known = {Address.parse(pair.lidJID).user: Address.parse(pair.pnJID).user for pair in data.phoneNumberToLidMappings}

    async def find_phone(lid: str) -> str | None:
        return known.get(lid) or await phone_of_lid(lid)

    chats: list[PastChat] = []
    messages: list[Incoming] = []
    number = 0
    name = f"history:{data.syncType}:{data.chunkOrder}"
    for conversation in data.conversations:
        address = Address.parse(conversation.ID)
        chat = await _chat_id(address, conversation, find_phone)
        chats.append(_read_chat(address, chat, conversation, now))
        for entry in conversation.messages:
            if old := await _read_old(device, address, chat, entry.message, phone_of_lid=find_phone, now=now):
                messages.append(old)
            if len(messages) >= PIECE:
                yield History(device.id, f"{name}:{number}", tuple(chats), tuple(messages))
                chats, messages, number = [], [], number + 1
        if len(chats) >= PIECE:
            yield History(device.id, f"{name}:{number}", tuple(chats), tuple(messages))
            chats, messages, number = [], [], number + 1
    if chats or messages:
        yield History(device.id, f"{name}:{number}", tuple(chats), tuple(messages))


async def _chat_id(address: Address, conversation: Any, phone_of_lid: PhoneOfLid) -> str:
    if not address.is_person:
        return str(address)
    return await phone_of(phone_of_lid, address, Address.parse(conversation.pnJID), Address.parse(conversation.lidJID))


def _read_chat(address: Address, chat: str, conversation: Any, now: datetime) -> PastChat:
    last = conversation.conversationTimestamp or conversation.lastMsgTimestamp
    muted_until = conversation.muteEndTime
    if muted_until > _LATEST_IN_SECONDS:
        muted_until //= 1000
    return PastChat(
        chat=chat,
        name=conversation.name or conversation.displayName,
        unread=conversation.unreadCount,
        is_group=address.server == "g.us",
        is_muted=muted_until > now.timestamp(),
        last_at=moment(last, now) if last else None,
    )


async def _read_old(
    device: DeviceRef, address: Address, chat: str, old: Any, *, phone_of_lid: PhoneOfLid, now: datetime
) -> Incoming | None:
    contents = read_contents(old.message)
    if contents is None or not old.key.ID:
        return None
    from_me = bool(old.key.fromMe)
    if from_me:
        sender = own_phone(device)
    elif address.is_person:
        sender = chat
    else:
        sender = await phone_of(phone_of_lid, Address.parse(old.participant or old.key.participant))
    return Incoming(
        device_id=device.id,
        sender=sender,
        text=contents.text,
        whatsapp_id=old.key.ID,
        at=moment(old.messageTimestamp, now),
        is_personal=address.is_person,
        from_me=from_me,
        chat=chat,
        sender_name="" if from_me else old.pushName,
        media=contents.media,
    )
