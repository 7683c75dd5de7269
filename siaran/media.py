"""Media that messages carry: kept once for each user and content, named by a reference, removed when nothing open needs it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from siaran.errors import Conflict, Invalid, NotFound
from siaran.gateway.interface import MediaFile
from siaran.media_types import MediaType
from siaran.models import (
    BROADCASTS,
    ONE_OFF,
    BroadcastMessage,
    Campaign,
    CampaignStatus,
    Device,
    Media,
    MessageStatus,
    SequenceStep,
)
from siaran.models import Sequence as Project
from siaran.tenancy import get_owned, select_owned

REFERENCE = "/api/media/"
"""What a reference begins with: the path under which its owner reads it."""

NAME_LENGTH = 100

QUOTA = 2**30
"""Bytes that the files of one user may have together."""

OPEN_PHASES = (CampaignStatus.SCHEDULED, CampaignStatus.SENDING, CampaignStatus.WAITING, CampaignStatus.PAUSED)
OPEN = (MessageStatus.PENDING, MessageStatus.CLAIMED)

_REFERENCE = re.compile(rf"{REFERENCE}([0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})")
_UNSAFE = re.compile(r"[^\w .()+-]+")


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A checked file that is to be kept; `source_url` is where it was fetched from, if it was."""

    content: bytes
    type: MediaType
    file_name: str
    source_url: str | None = None


def reference_to(media_id: UUID) -> str:
    """How campaigns, steps and messages name a stored file."""
    return f"{REFERENCE}{media_id}"


def referenced_id(reference: str | None) -> UUID | None:
    """The id in a reference, or `None` for what is none, such as a URL."""
    match = _REFERENCE.fullmatch(reference or "")
    return UUID(match[1]) if match else None


def clean_file_name(raw: str, suffix: str) -> str:
    """A file name for the recipient's phone: no folders, nothing strange, the ending that its content has."""
    stem = _UNSAFE.sub("_", PurePath(raw.replace("\\", "/")).stem).strip(" ._") or "file"
    return stem[: NAME_LENGTH - len(suffix)] + suffix


async def keep_media(session: AsyncSession, user_id: UUID, new: NewMedia, now: datetime) -> Media:
    """Store a file, or find the one of the same content that the user has already; raises `Conflict` over the quota."""
    digest = hashlib.sha256(new.content).digest()
    query = select_owned(Media, user_id).where(Media.sha256 == digest).with_for_update(read=True, key_share=True)
    if (kept := await session.scalar(query)) is not None:
        return kept
    taken = await session.scalar(select(func.coalesce(func.sum(Media.size_bytes), 0)).where(Media.user_id == user_id)) or 0
    if taken + len(new.content) > QUOTA:
        raise Conflict(f"your files may have {QUOTA // 2**20:,} MB together; delete some that you need no more")
    row = {
        "user_id": user_id,
        "sha256": digest,
        "mime_type": new.type.mime_type,
        "size_bytes": len(new.content),
        "file_name": clean_file_name(new.file_name, new.type.suffix),
        "source_url": new.source_url,
        "content": new.content,
        "created_at": now,
    }
    await session.execute(insert(Media).values(row).on_conflict_do_nothing())
    return (await session.scalars(query)).one()


async def find_media(session: AsyncSession, user_id: UUID, reference: str, field: str = "image_url") -> Media:
    """The file that a reference names, held so that nobody removes it meanwhile; raises `Invalid` for `field`."""
    media_id = referenced_id(reference)
    query = select_owned(Media, user_id).where(Media.id == media_id).with_for_update(read=True, key_share=True)
    media = await session.scalar(query) if media_id is not None else None
    if media is None:
        raise Invalid.field(field, "is no media of yours: upload it, or give its URL")
    return media


async def get_media(session: AsyncSession, user_id: UUID, media_id: UUID) -> Media:
    """A user's file without its content; raises `NotFound`."""
    return await get_owned(session, Media, user_id, Media.id == media_id)


async def list_media(
    session: AsyncSession, user_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Media]:
    """A user's files without their contents, newest first, beginning behind (`created_at`, `id`)."""
    query = select_owned(Media, user_id).order_by(Media.created_at.desc(), Media.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tuple_(Media.created_at, Media.id) < tuple_(*after))
    return (await session.scalars(query)).all()


async def media_content(session: AsyncSession, user_id: UUID, reference: str) -> MediaFile:
    """The file that a message's `media_url` names; raises `NotFound` when it is gone or was never stored."""
    media_id = referenced_id(reference)
    query = select_owned(Media, user_id).where(Media.id == media_id).options(undefer(Media.content))
    media = await session.scalar(query) if media_id is not None else None
    if media is None:
        raise NotFound("no such media")
    return MediaFile(media.mime_type, media.file_name, media.content)


async def delete_media(session: AsyncSession, user_id: UUID, media_id: UUID) -> None:
    """Remove a file; raises `NotFound`, and `Conflict` while a campaign, step or message that is still to be sent names it."""
    media = await get_owned(session, Media, user_id, Media.id == media_id, lock=True)
    reference = reference_to(media.id)
    users = {
        "a campaign that has not ended": exists().where(
            Campaign.user_id == user_id,
            Campaign.image_url == reference,
            Campaign.deleted_at.is_(None),
            Campaign.status.in_(OPEN_PHASES),
        ),
        "a step of a sequence": exists().where(
            SequenceStep.user_id == user_id,
            SequenceStep.media_url == reference,
            SequenceStep.sequence_id == Project.id,
            Project.deleted_at.is_(None),
        ),
        "a message that is still to be sent": or_(*(_is_open_message(user_id, reference, status) for status in OPEN)),
    }
    for what, uses in users.items():
        if await session.scalar(select(uses)):
            raise Conflict(f"{what} uses it")
    await session.delete(media)


def _is_open_message(user_id: UUID, reference: str, status: MessageStatus) -> ColumnElement[bool]:
    """Whether a one-off message or a broadcast's uses the file; by device, because the indexes of open messages are."""
    source = BroadcastMessage.source
    return exists().where(
        BroadcastMessage.user_id == user_id,
        BroadcastMessage.device_id.in_(select(Device.id).where(Device.user_id == user_id)),
        or_(source == ONE_OFF, and_(source >= BROADCASTS[0], source < BROADCASTS[1])),
        BroadcastMessage.status == status,
        BroadcastMessage.media_url == reference,
    )
