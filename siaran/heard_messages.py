"""Messages of contacts as Siaran hears them: whose device they came to, from which phone, and which of them are new."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.auto_replies import Heard
from siaran.chat_lines import ID_LENGTH, tidy
from siaran.gateway.interface import Incoming
from siaran.phone import read_digits
from siaran.schedule import local_day
from siaran.webhook_news import NewMessage

_OWNERS = text("""
    SELECT d.id, d.user_id, d.phone, d.deleted_at IS NULL AS can_answer, u.country, u.timezone, u.opt_out_words, u.opt_out_reply
    FROM user_devices d JOIN users u ON u.id = d.user_id
    WHERE d.id = ANY(CAST(:devices AS uuid[]))
""")

# The SELECT at the end sees the table as it was before these rows came.
_NOTE = text("""
    WITH heard AS MATERIALIZED (
        SELECT h.*, EXISTS (
            SELECT FROM broadcast_messages m
            WHERE m.user_id = h.user_id AND m.recipient_phone = h.sender
                AND m.status IN ('claimed', 'sent', 'delivered', 'read', 'unknown')
        ) AS is_reply
        FROM unnest(
            CAST(:devices AS uuid[]), CAST(:senders AS text[]), CAST(:whatsapp_ids AS text[]), CAST(:users AS uuid[]),
            CAST(:days AS date[]), CAST(:times AS timestamptz[])
        ) AS h(device_id, sender, whatsapp_id, user_id, day, received_at)
    ), fresh AS (
        INSERT INTO incoming_messages (device_id, sender, whatsapp_id, user_id, day, is_reply, received_at)
        SELECT device_id, sender, whatsapp_id, user_id, day, is_reply, received_at FROM heard
        ORDER BY device_id, sender, whatsapp_id
        ON CONFLICT DO NOTHING
        RETURNING device_id, sender, whatsapp_id, day, is_reply
    )
    SELECT f.device_id, f.sender, f.whatsapp_id, f.is_reply AND NOT EXISTS (
        SELECT FROM incoming_messages e
        WHERE e.device_id = f.device_id AND e.sender = f.sender AND e.day = f.day AND e.is_reply
    ) AS is_first_reply
    FROM fresh f
""")


@dataclass(frozen=True, slots=True)
class DeviceOwner:
    """Whose device it is, and what its user has set."""

    user_id: UUID
    phone: str
    country: str
    timezone: str
    words: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class HeardMessage:
    """A message of a contact, with the phone in the form in which leads have it."""

    device_id: UUID
    phone: str
    whatsapp_id: str
    owner: DeviceOwner
    text: str
    at: datetime
    day: date
    says_something: bool
    name: str
    kind: str

    @property
    def to_answer(self) -> Heard:
        """What an automatic reply has to know of it."""
        return Heard(self.owner.user_id, self.device_id, self.phone, self.at)

    @property
    def news(self) -> NewMessage:
        """What webhooks are told of it."""
        user_id = self.owner.user_id
        return NewMessage(user_id, self.device_id, self.phone, self.text, self.at, self.whatsapp_id, self.name, self.kind)

    @property
    def key(self) -> tuple[UUID, str, str]:
        """What tells it from every other message."""
        return self.device_id, self.phone, self.whatsapp_id


async def read_owners(session: AsyncSession, device_ids: set[UUID]) -> dict[UUID, DeviceOwner]:
    """Whose devices these are; those that are unknown are left out."""
    rows = await session.execute(_OWNERS, {"devices": sorted(device_ids)})
    return {
        row.id: DeviceOwner(
            user_id=row.user_id,
            phone=row.phone,
            country=row.country,
            timezone=row.timezone,
            words=tuple(row.opt_out_words),
            answer=row.opt_out_reply if row.can_answer else "",
        )
        for row in rows
    }


def hear(event: Incoming, owners: Mapping[UUID, DeviceOwner], now: datetime) -> HeardMessage | None:
    """The message of a contact in an event; None for what is no such thing."""
    owner = owners.get(event.device_id)
    if owner is None or event.from_me or not event.is_personal:
        return None
    phone = read_digits(event.sender, owner.country)
    if phone is None or phone == owner.phone:
        return None
    at = min(event.at, now)
    # A message that cannot be written would be tried for ever.
    whatsapp_id = tidy(event.whatsapp_id, ID_LENGTH)
    return HeardMessage(
        event.device_id,
        phone,
        whatsapp_id,
        owner,
        event.text,
        at,
        local_day(at, owner.timezone),
        says_something=bool(event.text.strip() or event.media),
        name=event.sender_name,
        kind=event.media.kind if event.media else "text",
    )


async def note_heard(
    session: AsyncSession, heard: Mapping[tuple[UUID, str, str], HeardMessage]
) -> tuple[list[HeardMessage], list[HeardMessage]]:
    """The messages that are new, and those among them that are their contact's first reply of the day."""
    if not heard:
        return [], []
    messages = list(heard.values())
    rows = await session.execute(
        _NOTE,
        {
            "devices": [message.device_id for message in messages],
            "senders": [message.phone for message in messages],
            "whatsapp_ids": [message.whatsapp_id for message in messages],
            "users": [message.owner.user_id for message in messages],
            "days": [message.day for message in messages],
            "times": [message.at for message in messages],
        },
    )
    fresh: list[HeardMessage] = []
    replies: dict[tuple[UUID, str, date], HeardMessage] = {}
    for row in rows:
        message = heard[row.device_id, row.sender, row.whatsapp_id]
        fresh.append(message)
        if row.is_first_reply:
            replies[message.device_id, message.phone, message.day] = message
    return fresh, list(replies.values())
