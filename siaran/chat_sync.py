"""Syncing chats on request: what the account calls its contacts, and where the pictures of its newest chats are."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from siaran.chats import name_chats, newest_chats, picture_chats
from siaran.devices import get_device
from siaran.errors import Conflict, Unavailable
from siaran.host_reads import HostReader
from siaran.models import TransportKind

PICTURES = 20
"""Of how many chats the picture is looked for; WhatsApp notices who asks for many."""

PICTURES_AT_ONCE = 2
PICTURES_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Synced:
    """How many chats are called differently now, and of how many a picture was found."""

    names: int
    pictures: int


async def sync_chats(reader: HostReader, user_id: UUID, device_id: UUID, *, country: str) -> Synced:
    """Read names and pictures from WhatsApp into a device's chats; a simulated device has neither.

    Raises what `HostReader` does when contacts cannot be read; pictures that do not come in time are left for another time.
    """
    async with reader.sessions() as session:
        device = await get_device(session, user_id, device_id)
        chats = await newest_chats(session, user_id, device_id, PICTURES)
    if device.transport == TransportKind.SIMULATED:
        return Synced(0, 0)
    names = await reader.read_contacts(user_id, device_id)
    pictures: dict[str, str | None] = {}
    gate = asyncio.Semaphore(PICTURES_AT_ONCE)

    async def look(chat_id: str) -> None:
        async with gate:
            try:
                pictures[chat_id] = await reader.picture_url(user_id, device_id, chat_id)
            except (Unavailable, Conflict):
                return

    looks = [asyncio.create_task(look(chat_id)) for chat_id in chats]
    if looks:
        _, late = await asyncio.wait(looks, timeout=PICTURES_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
    async with reader.sessions.begin() as session:
        renamed = await name_chats(session, user_id, device_id, names, country=country)
        await picture_chats(session, user_id, device_id, pictures)
    return Synced(renamed, sum(url is not None for url in pictures.values()))
