"""The WhatsApp library's receipts and messages as Siaran's events."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from siaran.gateway.interface import DeviceRef, Incoming, Receipt, ReceiptKind
from siaran.gateway.whatsapp_contents import read_contents

PhoneOfLid = Callable[[str], Awaitable[str | None]]
"""Finds the phone number (digits) behind WhatsApp's own number of a user."""

_PHONES = {"s.whatsapp.net", "hosted", "c.us"}
_LIDS = {"lid", "hosted.lid"}

_RECEIPTS = {"DELIVERED": ReceiptKind.DELIVERED, "READ": ReceiptKind.READ, "PLAYED": ReceiptKind.READ}


@dataclass(frozen=True, slots=True)
class Address:
    """Somebody's address: a phone number, WhatsApp's own number of a user (LID), a group, …"""

    user: str
    server: str

    @classmethod
    def of(cls, jid: Any) -> "Address":
        """The address in a JID of the library, without the device."""
        return cls(jid.User, jid.Server)

    @classmethod
    def parse(cls, written: str) -> "Address":
        """The address in the form `user:device@server`, without the device."""
        user, _, server = written.partition("@")
        return cls(user.partition(":")[0].partition(".")[0], server)

    def __str__(self) -> str:
        return f"{self.user}@{self.server}" if self.user else self.server

    @property
    def is_person(self) -> bool:
        """Whether it is one person's, so that a chat with it is personal."""
        return self.server in _PHONES or self.server in _LIDS


async def phone_of(phone_of_lid: PhoneOfLid, *addresses: Address) -> str:
    """The phone number of a person whose addresses these are; an address in full if WhatsApp does not tell the number."""
    for address in addresses:
        if address.server in _PHONES and address.user:
            return address.user
    for address in addresses:
        if address.server in _LIDS and address.user and (phone := await phone_of_lid(address.user)):
            return phone
    return str(addresses[0])


def own_phone(device: DeviceRef) -> str:
    """The phone number of a device's account."""
    return Address.parse(device.jid).user


def read_receipts(device_id: UUID, receipt: Any, now: datetime) -> list[Receipt]:
    """One receipt for each message that it is about; none for those that say nothing of delivery.

    Receipts come from LIDs, so a message is known by its id alone. A type that the library does not know is absent, and would
    read as the first one: delivered.
    """
    if not receipt.HasField("Type"):
        return []
    kind = _RECEIPTS.get(type(receipt).ReceiptType.Name(receipt.Type))
    if kind is None:
        return []
    at = moment(receipt.Timestamp, now)
    return [Receipt(device_id, whatsapp_id, kind, at) for whatsapp_id in receipt.MessageIDs]


async def read_message(device: DeviceRef, event: Any, phone_of_lid: PhoneOfLid, now: datetime) -> Incoming | None:
    """A message of the library; None for edits, deletions, reactions and what else is no message of its own."""
    info = event.Info
    if event.IsEdit or info.Edit or info.Category == "peer":
        return None
    contents = read_contents(event.Message)
    if contents is None:
        return None
    source = info.MessageSource
    chat, from_me = Address.of(source.Chat), bool(source.IsFromMe)
    if from_me:
        sender = own_phone(device)
    else:
        sender = await phone_of(phone_of_lid, Address.of(source.Sender), Address.of(source.SenderAlt))
    is_personal = chat.is_person and not source.IsGroup
    if not is_personal:
        chat_id = str(chat)
    elif from_me:
        chat_id = await phone_of(phone_of_lid, chat, Address.of(source.RecipientAlt))
    else:
        chat_id = sender
    return Incoming(
        device_id=device.id,
        sender=sender,
        text=contents.text,
        whatsapp_id=info.ID,
        at=moment(info.Timestamp / 1000, now),
        is_personal=is_personal,
        from_me=from_me,
        chat=chat_id,
        sender_name="" if from_me else info.Pushname,
        media=contents.media,
    )


def moment(seconds: float, now: datetime) -> datetime:
    """A time in seconds since 1970; `now` in place of one that is missing or makes no sense."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else now
    except (OverflowError, ValueError, OSError):
        return now
