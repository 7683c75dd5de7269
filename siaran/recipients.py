"""Whom a single message goes to: numbers and WhatsApp's own addresses of contacts, and whom a user has written with before."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.phone import InvalidPhone, normalise_phone, read_digits

CONTACTS = frozenset({"s.whatsapp.net", "c.us"})
"""What stands behind the `@` of a contact's address."""

_NO_CONTACTS = {
    "g.us": "is a group: messages go to single contacts",
    "broadcast": "is a broadcast list: messages go to single contacts",
    "newsletter": "is a channel: messages go to single contacts",
    "lid": "is a hidden id: give the phone number",
}

_KNOWS = text("""
    SELECT has_chat(:user, :device, :phone) OR EXISTS (
        SELECT FROM broadcast_messages m WHERE m.user_id = :user AND m.recipient_phone = :phone AND m.sent_at IS NOT NULL
    )
""")


def read_recipient(raw: str, country: str) -> str:
    """The phone, in the form in which it is stored, of a number in any form or of an address such as `60123…@s.whatsapp.net`.

    `country` is where local numbers are dialled. Raises `InvalidPhone`, among others for groups.
    """
    number, at, server = raw.strip().partition("@")
    if not at:
        return normalise_phone(raw, country)
    server = server.lower()
    if server not in CONTACTS:
        raise InvalidPhone(_NO_CONTACTS.get(server, "is no address of a contact, such as 60123456789@s.whatsapp.net"))
    # Behind a colon, an address may name one of the account's devices.
    phone = read_digits(number.partition(":")[0].removeprefix("+"), country)
    if phone is None:
        raise InvalidPhone("is no address of a contact, such as 60123456789@s.whatsapp.net")
    return phone


async def has_written_with(session: AsyncSession, user_id: UUID, device_id: UUID, phone: str) -> bool:
    """Whether the user has sent something to the phone before, or the device has heard from it."""
    return bool(await session.scalar(_KNOWS, {"user": user_id, "device": device_id, "phone": phone}))
