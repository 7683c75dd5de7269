"""Files of messages that came in are fetched through their devices, and given up where that is of no use."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from siaran.chat_lines import LARGEST_FILE
from siaran.chat_media import FIRST_PAUSE, MOST_TRIES, claim_files, keep_file, read_file
from siaran.chat_notices import chat_channel
from siaran.db import SessionMaker
from siaran.errors import NotFound
from siaran.gateway.interface import MediaFile, NotConnected, Rejected, TransportError
from siaran.gateway.simulated import SimulatedTransport
from siaran.models import ChatMedia, ChatMediaState, ChatMessage, Device, DeviceStatus, Host
from tests.factories import add_host, add_user, after
from tests.ledger.chat_desk import PICTURE, ChatDesk
from tests.ledger.driver import Ledger
from tests.worker.conftest import until
from worker import chat_media
from worker.chat_media import ChatDownloads


class Library(SimulatedTransport):
    """WhatsApp's files, by their reference; what is an error is raised."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.files: dict[bytes, bytes | Exception] = {}
        self.asked: list[tuple[UUID, bytes]] = []

    async def download(self, device_id: UUID, reference: bytes) -> bytes:
        self.asked.append((device_id, reference))
        await asyncio.sleep(0)
        found = self.files[reference]
        if isinstance(found, Exception):
            raise found
        return found


class Downloads:
    """A desk whose files a host fetches."""

    def __init__(self, desk: ChatDesk, library: Library, redis: Redis) -> None:
        self.desk = desk
        self.library = library
        self.now = after(86_400)
        self.loop = ChatDownloads(
            desk.ledger.host.id,
            transport=library,
            sessions=desk.ledger.sessions,
            redis=redis,
            clock=lambda: self.now,
        )

    async def waits(self, number: int, found: bytes | Exception, desk: ChatDesk | None = None, **fields: object) -> None:
        """A message with a file has come in."""
        desk = desk or self.desk
        reference = f"{desk.device.id}/{number}".encode()
        self.library.files[reference] = found
        media = replace(PICTURE, reference=reference, **fields)  # type: ignore[arg-type]  # fields of a dataclass
        await desk.hear(desk.said(f"file {number}", number, media=media))

    async def asked(self, times: int) -> None:
        """Return once the library was asked that often and what it said is written down."""

        async def is_done() -> bool:
            return len(self.library.asked) >= times and not self.loop._tasks

        await until(is_done)

    async def states(self) -> list[ChatMediaState | None]:
        """What has become of the files, newest first."""
        return [line.media_state for line in await self.desk.lines()]


@pytest.fixture
async def downloads(
    sessions: SessionMaker, network_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Downloads]:
    """The downloads of a host with one device, at work."""
    monkeypatch.setattr(chat_media, "LOOK_SECONDS", 0.02)
    ledger = Ledger(sessions)
    await ledger.open()
    desk = ChatDesk(ledger)
    await desk.open()
    downloads = Downloads(desk, Library(network_url), redis)
    task = asyncio.create_task(downloads.loop.run())
    yield downloads
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_file_that_came_in_is_kept_for_its_owner_only(downloads: Downloads, redis: Redis) -> None:
    device = downloads.desk.device
    async with redis.pubsub() as channel:
        await channel.subscribe(chat_channel(device.id))
        await downloads.waits(1, b"a picture", mime_type="image/jpeg; q=1", file_name="a.jpg")
        await downloads.asked(1)
        async with asyncio.timeout(5):
            while (await channel.get_message(ignore_subscribe_messages=True, timeout=1)) is None:
                pass

    [line] = await downloads.desk.lines()
    assert (line.media_state, line.media_url) == (ChatMediaState.KEPT, f"/api/chat-media/{line.row_id}")
    async with downloads.desk.ledger.sessions.begin() as session:
        stranger = await add_user(session)
        file = await read_file(session, device.user_id, line.row_id)
        assert file == MediaFile("image/jpeg", "a.jpg", b"a picture")
        with pytest.raises(NotFound):
            await read_file(session, stranger.id, line.row_id)
        assert await session.scalar(select(ChatMessage.media_reference)) is None


async def test_a_file_that_whatsapp_has_no_more_is_gone(downloads: Downloads) -> None:
    await downloads.waits(1, Rejected("media_gone", retryable=False))
    await downloads.asked(1)

    assert await downloads.states() == [ChatMediaState.GONE]


async def test_a_file_that_is_larger_than_was_said_is_not_kept(downloads: Downloads) -> None:
    await downloads.waits(1, bytes(LARGEST_FILE + 1))
    await downloads.asked(1)

    assert await downloads.states() == [ChatMediaState.TOO_LARGE]
    async with downloads.desk.ledger.sessions() as session:
        assert not list(await session.scalars(select(ChatMedia)))


@pytest.mark.parametrize("error", [Rejected("busy", retryable=True), TransportError("odd"), ValueError("a bug of a library")])
async def test_a_file_that_cannot_be_fetched_is_tried_again_ever_later_and_given_up(
    downloads: Downloads, error: Exception
) -> None:
    await downloads.waits(1, error)
    await downloads.asked(1)
    downloads.now += FIRST_PAUSE - timedelta(seconds=1)
    await asyncio.sleep(0.1)
    assert len(downloads.library.asked) == 1

    for tries in range(1, MOST_TRIES):
        assert await downloads.states() == [ChatMediaState.WAITING]
        downloads.now += FIRST_PAUSE * 2 ** (tries - 1)
        await downloads.asked(tries + 1)

    assert await downloads.states() == [ChatMediaState.GONE]
    downloads.now += timedelta(days=9)
    await asyncio.sleep(0.1)
    assert len(downloads.library.asked) == MOST_TRIES


async def test_a_device_without_a_connection_uses_up_no_tries(downloads: Downloads) -> None:
    await downloads.waits(1, NotConnected())
    for times in range(1, MOST_TRIES + 3):
        await downloads.asked(times)
        downloads.now += timedelta(minutes=2)
    downloads.library.files = dict.fromkeys(downloads.library.files, b"a picture")

    await downloads.asked(MOST_TRIES + 3)

    assert await downloads.states() == [ChatMediaState.KEPT]


async def test_a_file_whose_host_died_comes_again_and_is_kept_once(downloads: Downloads) -> None:
    ledger = downloads.desk.ledger
    ahead = downloads.now
    downloads.now = after(-1)
    await downloads.waits(1, b"a picture")
    async with ledger.sessions.begin() as session:
        [file] = await claim_files(session, ledger.host.id, ahead, most=9)
    async with ledger.sessions.begin() as session:
        assert not await claim_files(session, ledger.host.id, ahead, most=9)

    downloads.now = ahead + FIRST_PAUSE
    await downloads.asked(1)
    async with ledger.sessions.begin() as session:
        await keep_file(session, file, b"the same, fetched late", ahead)

    [line] = await downloads.desk.lines()
    async with ledger.sessions() as session:
        assert (await read_file(session, ledger.user.id, line.row_id)).content == b"a picture"


async def test_a_file_that_kills_its_host_is_given_up_without_asking_again(downloads: Downloads) -> None:
    ledger = downloads.desk.ledger
    ahead = downloads.now
    downloads.now = after(-1)
    await downloads.waits(1, b"deadly")
    for _ in range(MOST_TRIES):
        async with ledger.sessions.begin() as session:
            assert await claim_files(session, ledger.host.id, ahead, most=9)
        ahead += timedelta(days=2)

    downloads.now = ahead

    async def is_gone() -> bool:
        return await downloads.states() == [ChatMediaState.GONE]

    await until(is_gone)
    assert not downloads.library.asked


async def test_only_devices_that_this_host_has_online_are_asked_and_each_gets_its_turn(downloads: Downloads) -> None:
    ledger = downloads.desk.ledger
    downloads.now = after(-1)
    others = [
        await ledger.device(status=DeviceStatus.OFFLINE),
        await ledger.device(deleted_at=after(0)),
        await ledger.device(host=(await other_host(ledger))),
        await ledger.device(),
    ]
    for number in range(5):
        await downloads.waits(number, b"a picture")
    for device in others:
        await downloads.waits(9, b"a picture", desk=desk_of(downloads, device))

    async with ledger.sessions.begin() as session:
        files = await claim_files(session, ledger.host.id, after(86_400), most=3)
        rest = await claim_files(session, ledger.host.id, after(86_400), most=99, busy=[downloads.desk.device.id])

    assert {file.device_id for file in files + rest} == {downloads.desk.device.id, others[-1].id}
    assert len([file for file in files if file.device_id == downloads.desk.device.id]) == 2


async def other_host(ledger: Ledger) -> Host:
    """A host that is not the desk's."""
    async with ledger.sessions.begin() as session:
        return await add_host(session)


def desk_of(downloads: Downloads, device: Device) -> ChatDesk:
    """The chats of another device."""
    desk = ChatDesk(downloads.desk.ledger)
    desk.device = device
    return desk
