"""Chats through the API: lists, messages, files, what is unread, and syncing."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from redis.asyncio import Redis
from sqlalchemy import select

from siaran.chat_media import WaitingFile, keep_file
from siaran.chat_notices import chat_channel
from siaran.chats import name_chats, picture_chats
from siaran.db import SessionMaker
from siaran.gateway.interface import Incoming, ReceivedMedia
from siaran.incoming import take_in
from siaran.models import ChatMessage, Device, TransportKind
from tests.api.conftest import another_client, register
from tests.api.devices import add_linked_device

BEGAN_AT = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
SITI = "60123456789"


class Desk:
    """Someone with a device that hears of things."""

    def __init__(self, client: AsyncClient, sessions: SessionMaker, device_id: UUID) -> None:
        self.client = client
        self.sessions = sessions
        self.device_id = device_id

    @property
    def path(self) -> str:
        """Where the device is."""
        return f"/api/devices/{self.device_id}"

    async def hear(self, *said: tuple[str, str, int], **fields: Any) -> None:
        """Contacts write: who, what, how many seconds after it began."""
        events = [
            Incoming(self.device_id, sender, text, f"{sender}-{text}", BEGAN_AT + timedelta(seconds=seconds), **fields)
            for sender, text, seconds in said
        ]
        async with self.sessions.begin() as session:
            await take_in(session, events, BEGAN_AT + timedelta(days=1), store_chats=True)

    async def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET that has to succeed."""
        answer = await self.client.get(f"{self.path}/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def keep(self, number: int, content: bytes, mime_type: str) -> str:
        """Someone sends a file, and a host has fetched it; returns its address."""
        media = ReceivedMedia("image", mime_type, 'a "b".jpg', len(content), b"reference")
        await self.hear((SITI, f"file {number}", number), media=media)
        async with self.sessions.begin() as session:
            query = select(ChatMessage).where(ChatMessage.message_id == f"{SITI}-file {number}")
            row = (await session.scalars(query)).one()
            file = WaitingFile(row.id, row.device_id, row.user_id, b"", 1, row.media_mime_type or "", row.media_file_name or "")
            await keep_file(session, file, content, BEGAN_AT)
        [message] = [m for m in (await self.get(f"messages/{SITI}"))["results"] if m["id"] == f"{SITI}-file {number}"]
        assert message["mediaState"] == "kept"
        address: str = message["mediaUrl"]
        return address


@pytest.fixture
async def desk(api: AsyncClient, sessions: SessionMaker) -> Desk:
    client = await register(api)
    return Desk(client, sessions, await add_linked_device(client))


async def test_a_chat_and_its_messages_are_shown_as_the_original_did(desk: Desk):
    await desk.hear((SITI, "How much is it?", 0), (SITI, "Hello?", 60), sender_name="Siti")

    assert (await desk.get("chats"))["results"] == [
        {
            "id": SITI,
            "name": "Siti",
            "lastMessage": "Hello?",
            "time": "2026-03-01T09:01:00Z",
            "unread": 2,
            "avatar": None,
            "isGroup": False,
            "isMuted": False,
        }
    ]
    newest, oldest = (await desk.get(f"messages/{SITI}"))["results"]
    assert oldest["text"] == "How much is it?"
    assert newest == {
        "id": f"{SITI}-Hello?",
        "text": "Hello?",
        "sent": False,
        "time": "2026-03-01T09:01:00Z",
        "status": "received",
        "mediaType": None,
        "mediaUrl": None,
        "mediaState": None,
        "mediaMimeType": None,
        "mediaFileName": None,
        "sender": SITI,
    }
    for written in (f"+{SITI}", f"{SITI}@s.whatsapp.net"):
        assert len((await desk.get(f"messages/{written}"))["results"]) == 2


async def test_what_the_account_writes_on_its_phone_is_its_own(desk: Desk):
    await desk.hear(("60198765432", "Hi", 0), chat=SITI, from_me=True)

    [message] = (await desk.get(f"messages/{SITI}"))["results"]
    async with desk.sessions() as session:
        phone = (await session.get_one(Device, desk.device_id)).phone
    assert (message["sent"], message["status"], message["sender"]) == (True, "sent", phone)


async def test_a_chat_that_was_read_counts_nothing_and_is_announced(desk: Desk, redis: Redis):
    await desk.hear((SITI, "Hello?", 0))
    async with redis.pubsub() as channel:
        await channel.subscribe(chat_channel(desk.device_id))
        answer = await desk.client.post(f"{desk.path}/chats/{SITI}/read")
        assert (answer.status_code, answer.json()["results"]) == (200, {"id": SITI})
        notice = None
        while notice is None:
            notice = await channel.get_message(ignore_subscribe_messages=True, timeout=5)

    assert [chat["unread"] for chat in (await desk.get("chats"))["results"]] == [0]


async def test_pages_of_chats_meet_where_times_are_equal(desk: Desk):
    phones = [f"6012345{number:04d}" for number in range(11)]
    for phone in phones:
        await desk.hear((phone, "Hello?", 60 if phone == phones[5] else 0))

    seen = await pages(desk, "chats", 3)

    assert len(seen[0]) == 3
    assert seen[0][0]["id"] == phones[5]
    flat = [chat["id"] for page in seen for chat in page]
    assert sorted(flat) == phones
    assert [len(page) for page in seen] == [3, 3, 3, 2]


async def test_pages_of_messages_meet_where_times_are_equal(desk: Desk):
    await desk.hear(*((SITI, f"message {number}", 0) for number in range(8)), ("60111111111", "elsewhere", 0))

    seen = await pages(desk, f"messages/{SITI}", 4)

    assert [message["text"] for page in seen for message in page] == [f"message {number}" for number in reversed(range(8))]
    assert [len(page) for page in seen] == [4, 4]


async def pages(desk: Desk, path: str, limit: int) -> list[list[Any]]:
    """All pages of a list."""
    seen = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        answer = await desk.get(path, **query)
        seen.append(answer["results"])
        if answer["next_cursor"] is None:
            return seen
        query["cursor"] = answer["next_cursor"]


async def test_chats_are_searched(desk: Desk):
    await desk.hear((SITI, "How much?", 0), ("60111111111", "Hello", 1))

    assert [chat["id"] for chat in (await desk.get("chats", search="MUCH"))["results"]] == [SITI]
    assert [chat["id"] for chat in (await desk.get("chats", search="+60 12-345"))["results"]] == [SITI]
    assert (await desk.get("chats", search="%"))["results"] == []


async def test_a_picture_is_shown_and_anything_strange_is_saved(desk: Desk):
    shown = await desk.client.get(await desk.keep(1, b"a picture", "image/jpeg"))
    saved = await desk.client.get(await desk.keep(2, b"<script>", "text/html"))

    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, b"a picture", "image/jpeg")
    assert shown.headers["content-disposition"] == "inline; filename*=UTF-8''a%20%22b%22.jpg"
    assert saved.headers["content-disposition"].startswith("attachment;")
    for answer in (shown, saved):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "private" in answer.headers["cache-control"]


async def test_nobody_sees_the_chats_of_others_nor_of_deleted_devices(api: AsyncClient, desk: Desk):
    address = await desk.keep(1, b"a picture", "image/jpeg")
    stranger = await register(api, email="badrul@example.com")
    requests = [
        ("GET", f"{desk.path}/chats"),
        ("GET", f"{desk.path}/messages/{SITI}"),
        ("POST", f"{desk.path}/chats/{SITI}/read"),
        ("POST", f"{desk.path}/sync"),
        ("GET", address),
    ]
    for method, path in requests:
        assert (await another_client(api).request(method, path)).status_code == 401, path
        assert (await stranger.request(method, path)).status_code == 404, path
        assert (await desk.client.request(method, path)).status_code == 200, path

    assert (await desk.client.delete(desk.path)).status_code == 200
    for method, path in requests:
        assert (await desk.client.request(method, path)).status_code == 404, path
    async with desk.sessions() as session:
        assert await session.scalar(select(ChatMessage.id)), "history is kept"


async def test_what_is_no_chat_is_not_found_and_bad_input_is_refused_by_field(desk: Desk):
    for chat_id in (SITI, "nobody", "120363041234567890@g.us", "status@broadcast"):
        assert (await desk.client.get(f"{desk.path}/messages/{chat_id}")).status_code == 404
        assert (await desk.client.post(f"{desk.path}/chats/{chat_id}/read")).status_code == 404
    assert (await desk.client.get("/api/chat-media/1")).status_code == 404
    refused = {
        f"{desk.path}/chats?cursor=x": "cursor",
        f"{desk.path}/chats?limit=0": "limit",
        f"{desk.path}/chats?search={'x' * 201}": "search",
        f"{desk.path}/messages/{SITI}?limit=501": "limit",
        f"{desk.path}/messages/{'9' * 101}": "chat_id",
        "/api/chat-media/0": "message_id",
        "/api/devices/x/chats": "device_id",
    }
    for path, field in refused.items():
        answer = await desk.client.get(path)
        assert (path, answer.status_code) == (path, 422)
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    await desk.hear((SITI, "Hello?", 0))
    assert (await desk.client.get(f"{desk.path}/messages/{SITI}?cursor=x")).status_code == 422


async def test_a_simulated_device_has_nothing_to_sync(desk: Desk):
    await desk.hear((SITI, "Hello?", 0))

    answer = await desk.client.post(f"{desk.path}/sync")

    assert (answer.status_code, answer.json()["results"]) == (200, {"names": 0, "pictures": 0})


async def test_a_real_device_that_is_not_online_cannot_be_synced(desk: Desk):
    async with desk.sessions.begin() as session:
        (await session.get_one(Device, desk.device_id)).transport = TransportKind.WHATSAPP

    answer = await desk.client.post(f"{desk.path}/sync")

    assert answer.status_code == 503
    assert "not online" in answer.json()["detail"]


async def test_names_and_pictures_that_were_read_are_shown(desk: Desk):
    await desk.hear((SITI, "Hello?", 0), sender_name="siti99")
    async with desk.sessions.begin() as session:
        user_id = (await session.get_one(Device, desk.device_id)).user_id
        names = {"60123456789": "Siti Aminah\0", "60111111111": "Nobody here", "?": "x", SITI + "1": " "}
        assert await name_chats(session, user_id, desk.device_id, names, country="MY") == 1
        assert await name_chats(session, user_id, desk.device_id, names, country="MY") == 0
        await picture_chats(session, user_id, desk.device_id, {SITI: "https://example.com/siti.jpg", "60111111111": None})

    [chat] = (await desk.get("chats"))["results"]
    assert (chat["name"], chat["avatar"]) == ("Siti Aminah", "https://example.com/siti.jpg")
