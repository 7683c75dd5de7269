"""What events say of chats: the messages to keep, and what the account's phone counted, in a form that fits the tables."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from siaran.gateway.interface import History, Incoming, PastChat, ReceivedMedia
from siaran.media_types import MEGABYTE
from siaran.models import ChatMediaState
from siaran.phone import read_digits

TEXT_LENGTH = 65_536
"""What WhatsApp takes; nobody is to fill the database with one message."""

ID_LENGTH = 255
"""Ids are made by whoever sends, and an index holds no more than some 2,700 bytes."""

NAME_LENGTH = 200

LARGEST_FILE = 16 * MEGABYTE
"""Files that are larger are not fetched."""

PAST_FILES = timedelta(days=14)
"""Files of old messages are fetched when they are no older: WhatsApp soon forgets them, and a whole history is a lot."""

_ADDRESS = re.compile(r"[0-9-]{5,60}@(g\.us|lid)", re.ASCII)


class Owner(Protocol):
    """Whose device it is, and in which country (ISO 3166, two letters) numbers are read."""

    @property
    def user_id(self) -> UUID: ...  # noqa: D102 -- said above

    @property
    def country(self) -> str: ...  # noqa: D102 -- said above


@dataclass(frozen=True, slots=True)
class Line:
    """A message as it is kept; `name` is what its sender calls themselves, where that names the chat."""

    device_id: UUID
    user_id: UUID
    chat_id: str
    message_id: str
    is_outgoing: bool
    sender: str
    name: str
    text: str
    media: ReceivedMedia | None
    state: ChatMediaState | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Past:
    """A chat as the account's phone had counted it at `last_at`."""

    device_id: UUID
    user_id: UUID
    chat_id: str
    name: str
    unread: int
    is_muted: bool
    last_at: datetime


def tidy(raw: str, length: int) -> str:
    """A text that fits a column: no NUL, nothing that is no Unicode, not longer than that."""
    return raw[:length].replace("\0", "").encode(errors="replace").decode()


def chat_address(raw: str, country: str) -> str | None:
    """The id of a chat by what WhatsApp calls it; None for what is neither a personal chat nor a group."""
    return read_digits(raw, country) or (raw if _ADDRESS.fullmatch(raw) else None)


def read_lines(
    events: Iterable[Incoming], owners: Mapping[UUID, Owner], now: datetime, *, files_since: datetime | None = None
) -> list[Line]:
    """The messages to keep, in their order; files that were sent before `files_since` are not to be fetched."""
    lines = []
    for event in events:
        owner = owners.get(event.device_id)
        line = _read_line(event, owner, now, files_since) if owner is not None else None
        if line is not None:
            lines.append(line)
    return lines


def _read_line(event: Incoming, owner: Owner, now: datetime, files_since: datetime | None) -> Line | None:
    chat_id = chat_address(event.chat or event.sender, owner.country)
    message_id = tidy(event.whatsapp_id, ID_LENGTH)
    body = tidy(event.text, TEXT_LENGTH)
    if chat_id is None or not message_id or not (body or event.media):
        return None
    if not event.is_personal and not chat_id.endswith("@g.us"):
        return None
    at = min(event.at, now)
    sender = "" if event.from_me else read_digits(event.sender, owner.country) or tidy(event.sender, ID_LENGTH)
    return Line(
        device_id=event.device_id,
        user_id=owner.user_id,
        chat_id=chat_id,
        message_id=message_id,
        is_outgoing=event.from_me,
        sender=sender,
        name=tidy(event.sender_name, NAME_LENGTH) if event.is_personal and not event.from_me else "",
        text=body,
        media=event.media,
        state=_file_state(event.media, at, files_since),
        at=at,
    )


def _file_state(media: ReceivedMedia | None, at: datetime, files_since: datetime | None) -> ChatMediaState | None:
    if media is None:
        return None
    if media.size_bytes > LARGEST_FILE:
        return ChatMediaState.TOO_LARGE
    return ChatMediaState.GONE if files_since is not None and at < files_since else ChatMediaState.WAITING


def read_history(history: History, owners: Mapping[UUID, Owner], now: datetime) -> tuple[list[Line], list[Past]]:
    """The messages of a piece of history, oldest first, and its chats."""
    owner = owners.get(history.device_id)
    if owner is None:
        return [], []
    events = sorted(history.messages, key=lambda event: event.at)
    lines = read_lines(events, owners, now, files_since=now - PAST_FILES)
    newest = {line.chat_id: line.at for line in lines}
    return lines, [past for chat in history.chats for past in _read_past(chat, history, owner, newest, now)]


def _read_past(chat: PastChat, history: History, owner: Owner, newest: Mapping[str, datetime], now: datetime) -> Iterator[Past]:
    chat_id = chat_address(chat.chat, owner.country)
    if chat_id is None:
        return
    times = [time for time in (chat.last_at, newest.get(chat_id)) if time is not None]
    if times:  # there is nothing to show of a chat in which nothing ever happened
        name = tidy(chat.name, NAME_LENGTH)
        unread = min(max(chat.unread, 0), 1_000_000)
        yield Past(history.device_id, owner.user_id, chat_id, name, unread, chat.is_muted, min(max(times), now))
