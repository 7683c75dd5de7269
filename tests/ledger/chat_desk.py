"""A device whose chats are stored: what it hears, and what its owner sees of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from siaran.chats import ChatLine, ChatView, list_chats, list_lines, mark_read
from siaran.gateway.interface import History, Incoming, PastChat, Receipt, ReceivedMedia
from siaran.incoming import take_in
from siaran.ledger.receipts import apply_receipts
from siaran.ledger.records import Record, record_outcomes
from siaran.models import ChatMessage, Device
from tests.factories import after, new_phone
from tests.ledger.driver import Ledger

PICTURE = ReceivedMedia(kind="image", mime_type="image/jpeg", file_name="", size_bytes=2_000, reference=b"where it is")


class ChatDesk:
    """One device, the chats of which are stored, and one contact."""

    device: Device

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.contact = new_phone()

    async def open(self) -> None:
        """Add the device."""
        self.device = await self.ledger.device()

    def said(self, body: str, seconds: float = 0, *, whatsapp_id: str = "", **fields: Any) -> Incoming:
        """What the contact writes so many seconds after `NOW`; its id is its text unless told otherwise."""
        sender = fields.pop("sender", self.contact)
        return Incoming(self.device.id, sender, body, whatsapp_id or body, after(seconds), **fields)

    def wrote(self, body: str, seconds: float = 0, *, whatsapp_id: str = "") -> Incoming:
        """What the account writes to the contact on its phone."""
        return self.said(body, seconds, whatsapp_id=whatsapp_id, sender=self.device.phone, chat=self.contact, from_me=True)

    def past(self, *messages: Incoming, unread: int, seconds: float, name: str = "", is_muted: bool = False) -> History:
        """A piece of history with the contact's chat as the phone knew it so many seconds after `NOW`."""
        chat = PastChat(self.contact, name, unread, is_group=False, is_muted=is_muted, last_at=after(seconds))
        return History(self.device.id, "history:1", (chat,), messages)

    async def hear(self, *events: Incoming | History, at: datetime | None = None, store_chats: bool = True) -> None:
        """Take events in, in one transaction; a day after `NOW` unless told otherwise."""
        async with self.ledger.sessions.begin() as session:
            await take_in(session, events, at or after(86_400), store_chats=store_chats)

    async def record(self, *records: Record) -> None:
        """Write how attempts ended."""
        async with self.ledger.sessions.begin() as session:
            await record_outcomes(session, records, store_chats=True)

    async def receive(self, *receipts: Receipt) -> None:
        """Take in receipts."""
        async with self.ledger.sessions.begin() as session:
            await apply_receipts(session, receipts, store_chats=True)

    async def read(self, chat_id: str = "") -> None:
        """The owner has looked at a chat, the contact's unless told otherwise."""
        async with self.ledger.sessions.begin() as session:
            await mark_read(session, self.device.user_id, self.device.id, chat_id or self.contact)

    async def chats(self, device: Device | None = None, **how: Any) -> list[ChatView]:
        """The list of chats."""
        device = device or self.device
        async with self.ledger.sessions() as session:
            return await list_chats(session, device.user_id, device.id, **{"limit": 100, "before": None, **how})

    async def chat(self) -> ChatView:
        """The one chat there is."""
        [chat] = await self.chats()
        return chat

    async def lines(self, chat_id: str = "") -> list[ChatLine]:
        """The messages of a chat, newest first; those with the contact unless told otherwise."""
        async with self.ledger.sessions() as session:
            return await list_lines(
                session, self.device.user_id, self.device.id, chat_id or self.contact, limit=1_000, before=None
            )

    async def texts(self, chat_id: str = "") -> list[str]:
        """What is said in a chat, newest first."""
        return [line.text for line in await self.lines(chat_id)]

    async def rows(self) -> Sequence[ChatMessage]:
        """All messages that are stored, of all devices."""
        async with self.ledger.sessions() as session:
            return (await session.scalars(select(ChatMessage).order_by(ChatMessage.id))).all()
