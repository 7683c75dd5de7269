"""One-off messages: rows of the ledger that a device's lane sends ahead of the rest, and the wait for how they end."""

import asyncio
import hashlib
from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note
from siaran.db import SessionMaker
from siaran.devices import get_device, is_linked
from siaran.errors import Conflict, FieldError, Invalid, NotFound
from siaran.gateway.interface import MEDIA_TYPES, MessageType
from siaran.media import find_media, referenced_id
from siaran.media_types import kind_of
from siaran.models import (
    ONE_OFF,
    BroadcastMessage,
    Device,
    DeviceStatus,
    Host,
    Lane,
    Lead,
    MessageAttempt,
    MessageStatus,
    OneOffKey,
    Suppression,
    User,
)
from siaran.recipients import read_recipient
from siaran.rendering import check_template, render
from siaran.tenancy import get_owned, select_owned

OPEN = frozenset({MessageStatus.PENDING, MessageStatus.CLAIMED})
"""States in which nobody knows the end yet."""

MAX_KEY = 200
MAX_TEXT = 65_536

_LOOK_SECONDS = 0.1
_LOOK_SECONDS_AT_MOST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOff:
    """What is to be sent to one number, once.

    `phone` is in any form, or an address of WhatsApp's. `text` is the text, the caption, or the JSON of a location, contact or
    poll; with `is_template` its fields are filled in from the lead of that number, or from the user where there is none.
    `media_url` is a reference to the user's media, or the URL of a file that is fetched before it is queued. Without a
    `device_id` the device is chosen, or, with `only_device`, is the only one there is. `key` is the caller's own name for the
    message: asked for again under it, nothing is sent again. `text_field` and `media_field` are what the caller calls the two.
    """

    phone: str
    text: str = ""
    message_type: str = MessageType.TEXT
    media_url: str | None = None
    device_id: UUID | None = None
    only_device: bool = False
    is_template: bool = False
    key: str | None = None
    text_field: str = "message"
    media_field: str = "image_url"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a message would go: from which device to which phone."""

    device: Device
    phone: str


@dataclass(frozen=True, slots=True)
class MessageNow:
    """A message as it stands, with its last attempt if there was one."""

    message: BroadcastMessage
    attempt: MessageAttempt | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it by itself but receipts."""
        return self.message.status not in OPEN


async def check_one_off(session: AsyncSession, user_id: UUID, wanted: OneOff, *, country: str, now: datetime) -> Route | None:
    """Where a message would go, before anything is done for it; None when its key is taken already.

    Raises what `queue_one_off` does. A file that is not stored yet may be anything.
    """
    if wanted.key is not None:
        taken = select_owned(OneOffKey, user_id).where(OneOffKey.key == wanted.key)
        if await session.scalar(taken) is not None:
            return None
    phone = read_recipient(wanted.phone, country)
    await _check(session, user_id, wanted, phone, wanted.media_url)
    return Route(await choose_device(session, user_id, wanted.device_id, now, only=wanted.only_device), phone)


async def queue_one_off(
    session: AsyncSession, user_id: UUID, wanted: OneOff, *, country: str, now: datetime, kept_url: str | None = None
) -> BroadcastMessage:
    """Write a one-off message into the ledger; the caller commits and then wakes the lane of its device.

    `country` is where local numbers are dialled, `kept_url` the reference of a file that was fetched from its URL. Raises
    `Invalid` naming the field that is wrong, among them the phone of a contact who has opted out, and `Conflict` when no device
    can ever send it, or when its key stands for another message.
    """
    if (known := await _find_key(session, user_id, wanted)) is not None:
        return known
    phone = read_recipient(wanted.phone, country)
    media_url = kept_url or wanted.media_url
    await _check(session, user_id, wanted, phone, media_url)
    device = await choose_device(session, user_id, wanted.device_id, now, only=wanted.only_device)
    name, niche = await _recipient(session, user_id, phone, stand_in=wanted.is_template)
    message = BroadcastMessage(
        user_id=user_id,
        device_id=device.id,
        source=ONE_OFF,
        recipient_phone=phone,
        recipient_name=name,
        recipient_niche=niche,
        message_type=str(wanted.message_type),
        content=wanted.text,
        media_url=media_url,
        status=MessageStatus.PENDING,
        scheduled_at=now,
        created_at=now,
    )
    session.add(message)
    await session.flush()
    if wanted.is_template:
        message.content = render(wanted.text, name=name, phone=phone, niche=niche, seed=message.id)
    if wanted.key is not None:
        (await get_owned(session, OneOffKey, user_id, OneOffKey.key == wanted.key)).message_id = message.id
    note(
        session,
        user_id,
        "message.queued",
        f"message:{message.id}",
        device_id=device.id,
        details={"message_type": message.message_type},
    )
    await session.flush()
    return message


async def get_message(session: AsyncSession, user_id: UUID, message_id: int) -> MessageNow:
    """A user's message of any kind; raises `NotFound`."""
    query = (
        select_owned(BroadcastMessage, user_id)
        .add_columns(MessageAttempt)
        .outerjoin(
            MessageAttempt,
            and_(MessageAttempt.message_id == BroadcastMessage.id, MessageAttempt.attempt == BroadcastMessage.attempt),
        )
        .where(BroadcastMessage.id == message_id)
    )
    row = (await session.execute(query)).first()
    if row is None:
        raise NotFound("no such message")
    return MessageNow(*row)


async def wait_for_end(sessions: SessionMaker, user_id: UUID, message_id: int, *, seconds: float) -> MessageNow:
    """Look at a message until it has ended, for so many seconds at most; each look is a transaction of its own."""
    give_up_at = asyncio.get_running_loop().time() + seconds
    pause = _LOOK_SECONDS
    while True:
        async with sessions() as session:
            found = await get_message(session, user_id, message_id)
        left = give_up_at - asyncio.get_running_loop().time()
        if found.has_ended or left <= 0:
            return found
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.2, _LOOK_SECONDS_AT_MOST)


async def _check(session: AsyncSession, user_id: UUID, wanted: OneOff, phone: str, media_url: str | None) -> None:
    """Raise `Invalid` with everything that is wrong with what is to be sent."""
    errors = []
    if wanted.message_type not in set(MessageType):
        errors.append(FieldError("message_type", f"must be one of {', '.join(MessageType)}"))
    if wanted.message_type == MessageType.TEXT and not wanted.text.strip():
        errors.append(FieldError(wanted.text_field, "is empty"))
    if len(wanted.text) > MAX_TEXT or "\0" in wanted.text:
        errors.append(FieldError(wanted.text_field, f"must have at most {MAX_TEXT} characters, none of them NUL"))
    if wanted.message_type in MEDIA_TYPES and media_url is None:
        errors.append(FieldError(wanted.media_field, f"is required for {wanted.message_type}"))
    if wanted.is_template:
        check_template(wanted.text)
    if referenced_id(media_url) is not None:
        media = await find_media(session, user_id, media_url or "", wanted.media_field)
        kind = kind_of(media.mime_type)
        if wanted.message_type not in {kind, MessageType.DOCUMENT}:
            errors.append(
                FieldError(wanted.media_field, f"holds {media.mime_type}, which cannot go out as {wanted.message_type}")
            )
    if await is_opted_out(session, user_id, phone):
        errors.append(FieldError("phone", "has opted out of your messages"))
    if errors:
        raise Invalid(errors)


async def is_opted_out(session: AsyncSession, user_id: UUID, phone: str) -> bool:
    """Whether the contact asked the user to be left alone."""
    in_force: ColumnElement[bool] = and_(Suppression.phone == phone, Suppression.lifted_at.is_(None))
    return await session.scalar(select_owned(Suppression, user_id).where(in_force).limit(1)) is not None


async def choose_device(
    session: AsyncSession, user_id: UUID, device_id: UUID | None, now: datetime, *, only: bool = False
) -> Device:
    """The device asked for, never another; without one, that whose turn it is, or with `only` the only linked one."""
    if device_id is not None:
        try:
            device = await get_device(session, user_id, device_id)
        except NotFound as error:
            raise Invalid.field("device_id", "is no device of yours") from error
        if not is_linked(device):
            raise Conflict("the device is not linked; link it first")
        return device
    found = (await session.scalars(_next_devices(user_id, now).limit(2))).all()
    if not found:
        raise Conflict("no device is linked; link one first")
    if only and len(found) > 1:
        raise Invalid.field("device_id", "is required: you have several devices")
    return found[0]


def _next_devices(user_id: UUID, now: datetime) -> Select[Device]:
    """Devices as their turn is: those that can send, on which the fewest one-offs wait, and which are free first."""
    can_send = and_(
        Device.status == DeviceStatus.ONLINE,
        Host.id.is_not(None),
        Lane.paused_at.is_(None),
        or_(Device.restricted_until_at.is_(None), Device.restricted_until_at <= now),
    )
    waiting = (
        select(func.count())
        .select_from(BroadcastMessage)
        .where(
            BroadcastMessage.device_id == Device.id,
            BroadcastMessage.source == ONE_OFF,
            BroadcastMessage.status == MessageStatus.PENDING,
        )
        .scalar_subquery()
    )
    free_at = func.coalesce(Lane.next_send_at, Lane.last_activity_at)
    return (
        select_owned(Device, user_id)
        .join(Lane, Lane.device_id == Device.id)
        .outerjoin(Host, and_(Host.id == Device.host_id, Host.ended_at.is_(None), Host.expires_at > func.now()))
        .where(
            Device.deleted_at.is_(None),
            Device.is_active,
            Device.jid.is_not(None),
            Device.status.not_in([DeviceStatus.LOGGED_OUT, DeviceStatus.BANNED]),
        )
        .order_by(can_send.desc(), waiting, free_at.asc().nulls_first(), Device.created_at, Device.id)
    )


async def _recipient(session: AsyncSession, user_id: UUID, phone: str, *, stand_in: bool) -> tuple[str, str]:
    """Name and niche of the lead with this number; where there is none, the user may stand in."""
    lead = await session.scalar(select_owned(Lead, user_id).where(Lead.phone == phone))
    if lead is not None:
        return lead.name, lead.niche
    return ((await session.get_one(User, user_id)).full_name if stand_in else ""), ""


async def _find_key(session: AsyncSession, user_id: UUID, wanted: OneOff) -> BroadcastMessage | None:
    """The message that the key already stands for; else the key is taken, and others who ask for it wait for our commit."""
    if wanted.key is None:
        return None
    if not 1 <= len(wanted.key) <= MAX_KEY or not wanted.key.isprintable():
        raise Invalid.field("Idempotency-Key", f"must have 1 to {MAX_KEY} printable characters")
    digest = hashlib.sha256(repr(astuple(wanted)).encode()).digest()
    row = {"user_id": user_id, "key": wanted.key, "digest": digest}
    taken = insert(OneOffKey).values(row).on_conflict_do_nothing().returning(OneOffKey.key)
    if await session.scalar(taken) is not None:
        return None
    known = await get_owned(session, OneOffKey, user_id, OneOffKey.key == wanted.key)
    if known.digest != digest or known.message_id is None:
        raise Conflict("this Idempotency-Key was used for another message")
    return await get_owned(session, BroadcastMessage, user_id, BroadcastMessage.id == known.message_id)
