"""Broadcasts: one message to a list of numbers that is no campaign, from one device, in turn with the device's campaigns."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note
from siaran.errors import Conflict, FieldError, Invalid
from siaran.ledger.counters import Change, change_counters
from siaran.message_types import fit_message_type
from siaran.models import Broadcast, BroadcastMessage, MessageStatus, Suppression, broadcast_source
from siaran.one_off import MAX_KEY, MAX_TEXT, choose_device
from siaran.phone import InvalidPhone
from siaran.recipients import read_recipient
from siaran.rendering import check_template
from siaran.tenancy import get_owned, select_owned

MOST_PHONES = 1_000


class Verdict(StrEnum):
    """What becomes of one number of a list."""

    QUEUED = "queued"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    OPTED_OUT = "opted_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBroadcast:
    """What is to be sent to whom; `text` is a template, `media_url` a reference to the user's media or the URL of a file."""

    phones: tuple[str, ...]
    text: str = ""
    media_url: str | None = None
    device_id: UUID | None = None
    key: str | None = None

    @property
    def digest(self) -> bytes:
        """What tells it from every other one."""
        asked = (self.phones, self.text, self.media_url, self.device_id)
        return hashlib.sha256(repr(asked).encode()).digest()


@dataclass(frozen=True, slots=True)
class Judged:
    """One number as it was given, its normal form if it has one, and what becomes of it, with the reason if it gets nothing."""

    given: str
    phone: str | None
    verdict: Verdict
    reason: str | None = None


# Their ids lie between those of the first and the last, and its source tells its own from those of others in between.
_QUEUE = text("""
    WITH queued AS (
        INSERT INTO broadcast_messages
            (user_id, device_id, source, recipient_phone, recipient_name, recipient_niche, lead_id, message_type, content,
                media_url, status, cycle, scheduled_at)
        SELECT :user, :device, :source, p.phone, coalesce(l.name, ''), coalesce(l.niche, ''), l.id, :type, :content, :media,
            'pending', 0, :now
        FROM unnest(CAST(:phones AS text[])) WITH ORDINALITY AS p(phone, position)
        LEFT JOIN leads l ON l.user_id = :user AND l.phone = p.phone
        ORDER BY p.position
        RETURNING id
    )
    SELECT min(id), max(id) FROM queued
""")

_CANCEL = text("""
    WITH open AS MATERIALIZED (
        SELECT id FROM broadcast_messages
        WHERE device_id = :device AND user_id = :user AND source = :source AND status = 'pending'
        ORDER BY id FOR UPDATE
    )
    UPDATE broadcast_messages m SET status = 'cancelled' FROM open WHERE m.id = open.id AND m.status = 'pending'
    RETURNING m.campaign_id, m.device_id, m.user_id, old.status AS before, new.status AS after,
        coalesce(old.sent_at, old.claimed_at, old.scheduled_at) AS before_at,
        coalesce(new.sent_at, new.claimed_at, new.scheduled_at) AS after_at
""")


async def is_key_taken(session: AsyncSession, user_id: UUID, key: str | None) -> bool:
    """Whether the caller's name stands for a broadcast already."""
    query = select_owned(Broadcast, user_id).where(Broadcast.key == key)
    return key is not None and await session.scalar(query) is not None


async def check_broadcast(
    session: AsyncSession, user_id: UUID, wanted: NewBroadcast, *, country: str, now: datetime
) -> list[Judged]:
    """What would become of each number; raises what `queue_broadcast` does. A file that is not stored yet may be anything."""
    if wanted.key is not None and (not 1 <= len(wanted.key) <= MAX_KEY or not wanted.key.isprintable()):
        raise Invalid.field("Idempotency-Key", f"must have 1 to {MAX_KEY} printable characters")
    if not wanted.text.strip() and wanted.media_url is None:
        raise Invalid.field("message", "is empty, and there is no file")
    if len(wanted.text) > MAX_TEXT or "\0" in wanted.text:
        raise Invalid.field("message", f"must have at most {MAX_TEXT} characters, none of them NUL")
    check_template(wanted.text)
    if not 1 <= len(wanted.phones) <= MOST_PHONES:
        raise Invalid.field("phones", f"must hold 1 to {MOST_PHONES:,} numbers")
    judged = await _judge(session, user_id, wanted.phones, country)
    if not any(line.verdict is Verdict.QUEUED for line in judged):
        raise Invalid([FieldError(f"phones.{index}", line.reason or "") for index, line in enumerate(judged)])
    await choose_device(session, user_id, wanted.device_id, now, only=True)
    return judged


async def queue_broadcast(
    session: AsyncSession, user_id: UUID, wanted: NewBroadcast, *, country: str, now: datetime, kept_url: str | None = None
) -> tuple[Broadcast, list[Judged]]:
    """Write a message for everyone on the list who may get it; the caller commits and then wakes the lane of the device.

    Raises `Invalid` when there is nothing to send, or nobody to send it to, with the reason of each number, and `Conflict`
    when the device can never send it or the key stands for another broadcast. One that its key stands for is returned as it is.
    """
    if await is_key_taken(session, user_id, wanted.key):
        return await _known(session, user_id, wanted), await _judge(session, user_id, wanted.phones, country)
    judged = await check_broadcast(session, user_id, wanted, country=country, now=now)
    media_url = kept_url or wanted.media_url
    message_type = await fit_message_type(session, user_id, media_url, present="text", wanted=None, is_new=True)
    device = await choose_device(session, user_id, wanted.device_id, now, only=True)
    broadcast_id = uuid4()
    row = {
        "id": broadcast_id,
        "user_id": user_id,
        "device_id": device.id,
        "message_type": message_type,
        "content": wanted.text,
        "media_url": media_url,
        "messages": sum(line.verdict is Verdict.QUEUED for line in judged),
        "first_message_id": 0,
        "last_message_id": 0,
        "key": wanted.key,
        "digest": wanted.digest,
        "created_at": now,
    }
    # Whoever asks at the same time under the same key waits here for our commit.
    taken = insert(Broadcast).values(row).on_conflict_do_nothing().returning(Broadcast.id)
    if await session.scalar(taken) is None:
        return await _known(session, user_id, wanted), judged
    ids = await session.execute(
        _QUEUE,
        {
            "user": user_id,
            "device": device.id,
            "source": broadcast_source(broadcast_id),
            "phones": [line.phone for line in judged if line.verdict is Verdict.QUEUED],
            "type": message_type,
            "content": wanted.text,
            "media": media_url,
            "now": now,
        },
    )
    broadcast = await get_broadcast(session, user_id, broadcast_id)
    broadcast.first_message_id, broadcast.last_message_id = ids.one()
    _note(session, broadcast, "queued", messages=broadcast.messages, message_type=message_type)
    await session.flush()
    return broadcast, judged


async def get_broadcast(session: AsyncSession, user_id: UUID, broadcast_id: UUID) -> Broadcast:
    """A user's broadcast; raises `NotFound`."""
    return await get_owned(session, Broadcast, user_id, Broadcast.id == broadcast_id)


async def list_broadcasts(
    session: AsyncSession, user_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Broadcast]:
    """A user's broadcasts, newest first, beginning behind (`created_at`, `id`)."""
    query = select_owned(Broadcast, user_id).order_by(Broadcast.created_at.desc(), Broadcast.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tuple_(Broadcast.created_at, Broadcast.id) < tuple_(*after))
    return (await session.scalars(query)).all()


async def count_messages(session: AsyncSession, broadcast: Broadcast) -> Mapping[MessageStatus, int]:
    """How many of its messages are in which state."""
    query = (
        select(BroadcastMessage.status, func.count())
        .where(
            BroadcastMessage.user_id == broadcast.user_id,
            BroadcastMessage.id.between(broadcast.first_message_id, broadcast.last_message_id),
            BroadcastMessage.source == broadcast_source(broadcast.id),
        )
        .group_by(BroadcastMessage.status)
    )
    return {row[0]: row[1] for row in await session.execute(query)}


async def list_messages(
    session: AsyncSession, broadcast: Broadcast, *, after_id: int, limit: int, status: MessageStatus | None = None
) -> Sequence[BroadcastMessage]:
    """Its messages in the order of the list, beginning behind an id."""
    query = (
        select_owned(BroadcastMessage, broadcast.user_id)
        .where(
            BroadcastMessage.id > after_id,
            BroadcastMessage.id.between(broadcast.first_message_id, broadcast.last_message_id),
            BroadcastMessage.source == broadcast_source(broadcast.id),
        )
        .order_by(BroadcastMessage.id)
        .limit(limit)
    )
    return (await session.scalars(query if status is None else query.where(BroadcastMessage.status == status))).all()


async def cancel_broadcast(session: AsyncSession, user_id: UUID, broadcast_id: UUID, now: datetime) -> Broadcast:
    """Cancel what is not sent yet; a message under way reaches its own end. Raises `NotFound`."""
    broadcast = await get_broadcast(session, user_id, broadcast_id)
    values = {"device": broadcast.device_id, "user": user_id, "source": broadcast_source(broadcast.id)}
    cancelled = (await session.execute(_CANCEL, values)).all()
    if cancelled:
        broadcast.cancelled_at = broadcast.cancelled_at or now
        _note(session, broadcast, "cancelled", messages=len(cancelled))
        await session.flush()
    await change_counters(session, [Change.of(row) for row in cancelled])
    return broadcast


def _note(session: AsyncSession, broadcast: Broadcast, what: str, **details: object) -> None:
    subject = f"broadcast:{broadcast.id}"
    note(session, broadcast.user_id, f"broadcast.{what}", subject, device_id=broadcast.device_id, details=details)


async def _judge(session: AsyncSession, user_id: UUID, phones: Sequence[str], country: str) -> list[Judged]:
    """What becomes of each number, in the order in which they were given."""
    read: list[str | InvalidPhone] = []
    for given in phones:
        try:
            read.append(read_recipient(given, country))
        except InvalidPhone as error:
            read.append(error)
    asked = {phone for phone in read if isinstance(phone, str)}
    in_force = select(Suppression.phone).where(
        Suppression.user_id == user_id, Suppression.phone.in_(asked), Suppression.lifted_at.is_(None)
    )
    opted_out = set((await session.scalars(in_force)).all())
    seen: set[str] = set()
    judged = []
    for given, phone in zip(phones, read, strict=True):
        if isinstance(phone, InvalidPhone):
            judged.append(Judged(given, None, Verdict.INVALID, phone.reason))
        elif phone in opted_out:
            judged.append(Judged(given, phone, Verdict.OPTED_OUT, "has opted out of your messages"))
        elif phone in seen:
            judged.append(Judged(given, phone, Verdict.DUPLICATE, "is on the list already"))
        else:
            judged.append(Judged(given, phone, Verdict.QUEUED))
            seen.add(phone)
    return judged


async def _known(session: AsyncSession, user_id: UUID, wanted: NewBroadcast) -> Broadcast:
    """The broadcast that the key stands for."""
    known = await get_owned(session, Broadcast, user_id, Broadcast.key == wanted.key)
    if known.digest != wanted.digest:
        raise Conflict("this Idempotency-Key was used for another broadcast")
    return known
