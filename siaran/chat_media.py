"""Files of messages that came in: which of them are to be fetched, what became of them, and reading them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from siaran.errors import NotFound
from siaran.gateway.interface import MediaFile
from siaran.models import ChatMedia, ChatMediaState, ChatMessage, Device
from siaran.tenancy import select_owned

FILES = "/api/chat-media/"
"""What the address of a kept file begins with."""

MOST_TRIES = 10
"""The last try begins some 17 hours after the first."""

FIRST_PAUSE = timedelta(minutes=2)
"""How long after a try the next may begin, twice as long after each; longer than a download can take."""

OF_A_DEVICE = 2
"""How many files of one device are asked for at a time: others are to get theirs, too."""

# Counted before the try: a file that kills its host does so only a few times.
_CLAIM = text("""
    WITH due AS MATERIALIZED (
        SELECT waiting.id
        FROM user_devices d
        CROSS JOIN LATERAL (
            SELECT m.id, m.media_try_at FROM whatsapp_messages m
            WHERE m.device_id = d.id AND m.media_state = 'waiting' AND m.media_try_at <= :now AND m.user_id = d.user_id
            ORDER BY m.media_try_at LIMIT :of_a_device
            FOR NO KEY UPDATE SKIP LOCKED
        ) waiting
        WHERE d.host_id = :host AND d.status = 'online' AND d.deleted_at IS NULL AND d.id <> ALL(CAST(:busy AS uuid[]))
        ORDER BY waiting.media_try_at LIMIT :most
    )
    UPDATE whatsapp_messages m SET
        media_tries = m.media_tries + 1, media_try_at = :now + CAST(:pause AS interval) * (2 ^ m.media_tries)
    FROM due WHERE m.id = due.id
    RETURNING m.id, m.device_id, m.user_id, m.media_reference, m.media_tries, m.media_mime_type, m.media_file_name
""")

# The device was not online after all: that was no try.
_PUT_BACK = text("""
    UPDATE whatsapp_messages SET media_tries = media_tries - 1, media_try_at = :at
    WHERE id = :message AND user_id = :user AND media_state = 'waiting' AND media_tries = :tries
""")

_END = text("""
    UPDATE whatsapp_messages SET media_state = :state, media_url = :url, media_reference = NULL, media_try_at = NULL
    WHERE id = :message AND user_id = :user AND media_state = 'waiting'
""")


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file to fetch now; `tries` counts this one."""

    message_id: int
    device_id: UUID
    user_id: UUID
    reference: bytes
    tries: int
    mime_type: str
    file_name: str


def file_address(message_id: int) -> str:
    """Where its owner reads the file of a message."""
    return f"{FILES}{message_id}"


async def claim_files(
    session: AsyncSession, host_id: int, now: datetime, *, most: int, busy: Collection[UUID] = ()
) -> list[WaitingFile]:
    """The files that devices of a host are to fetch now, but for those of `busy` devices; the caller commits first.

    Each counts as tried from then on, and comes again only after a pause.
    """
    rows = await session.execute(
        _CLAIM,
        {
            "host": host_id,
            "now": now,
            "most": most,
            "of_a_device": OF_A_DEVICE,
            "busy": list(busy),
            "pause": FIRST_PAUSE,
        },
    )
    return [
        WaitingFile(
            message_id=row.id,
            device_id=row.device_id,
            user_id=row.user_id,
            reference=row.media_reference or b"",
            tries=row.media_tries,
            mime_type=row.media_mime_type or "application/octet-stream",
            file_name=row.media_file_name or "",
        )
        for row in rows
    ]


async def keep_file(session: AsyncSession, file: WaitingFile, content: bytes, now: datetime) -> None:
    """Keep what was fetched; keeping it twice changes nothing. The caller commits."""
    row = {
        "message_id": file.message_id,
        "user_id": file.user_id,
        "mime_type": file.mime_type,
        "file_name": file.file_name,
        "content": content,
        "created_at": now,
    }
    await session.execute(insert(ChatMedia).values(row).on_conflict_do_nothing())
    await _end(session, file, ChatMediaState.KEPT, file_address(file.message_id))


async def give_up_file(session: AsyncSession, file: WaitingFile, state: ChatMediaState) -> None:
    """Nobody will fetch it any more, because it is `gone` or `too_large`; the caller commits."""
    await _end(session, file, state, None)


async def put_back_file(session: AsyncSession, file: WaitingFile, at: datetime) -> None:
    """Its device was not connected: try again at that time, which then is the same try. The caller commits."""
    await session.execute(_PUT_BACK, {"message": file.message_id, "user": file.user_id, "tries": file.tries, "at": at})


async def _end(session: AsyncSession, file: WaitingFile, state: ChatMediaState, url: str | None) -> None:
    await session.execute(_END, {"message": file.message_id, "user": file.user_id, "state": state.value, "url": url})


async def read_file(session: AsyncSession, user_id: UUID, message_id: int) -> MediaFile:
    """A kept file of a device that is not deleted; raises `NotFound`."""
    query = (
        select_owned(ChatMedia, user_id)
        .join(ChatMessage, ChatMessage.id == ChatMedia.message_id)
        .where(
            ChatMedia.message_id == message_id,
            ChatMessage.user_id == user_id,
            ChatMessage.device_id.in_(select(Device.id).where(Device.user_id == user_id, Device.deleted_at.is_(None))),
        )
        .options(undefer(ChatMedia.content))
    )
    media = await session.scalar(query)
    if media is None:
        raise NotFound("no such file")
    return MediaFile(media.mime_type, media.file_name, media.content)
