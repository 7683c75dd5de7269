"""Chats of real accounts: what contacts, groups and the account's phone write is what the owner sees, files and all."""

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from api.app import create_app
from siaran.credentials import open_session
from tests.waiting import eventually
from tests.whatsapp.images import make_jpeg
from tests.whatsapp.stage import Owner, Stage

pytestmark = [pytest.mark.whatsapp, pytest.mark.xdist_group("hosts")]

GROUP = "120363000000000001@g.us"


class Viewer:
    """An owner with one device, who looks at its chats through the API."""

    def __init__(self, stage: Stage, owner: Owner, client: AsyncClient) -> None:
        self.stage = stage
        self.owner = owner
        self.client = client
        [self.device] = owner.devices
        self.number = owner.number(self.device)

    async def get(self, path: str) -> Any:
        """The results of a GET below the device."""
        answer = await self.client.get(f"/api/devices/{self.device}/{path}")
        return answer.json()["results"] if answer.is_success else []

    async def messages(self, chat: str, count: int) -> list[dict[str, Any]]:
        """The messages of a chat, newest first, once there are so many."""

        async def are_there() -> bool:
            return len(await self.get(f"messages/{chat}")) >= count

        await eventually(are_there)
        found: list[dict[str, Any]] = await self.get(f"messages/{chat}")
        return found

    async def chats(self) -> dict[str, dict[str, Any]]:
        """The chats by their ids."""
        return {chat["id"]: chat for chat in await self.get("chats")}


@pytest.fixture
async def viewer(stage: Stage) -> AsyncIterator[Viewer]:
    """Someone whose one device is online."""
    owner = await stage.owner(devices=1)
    product = stage.product
    async with product.sessions.begin() as session:
        token = await open_session(session, owner.user.id, address="", user_agent="", now=datetime.now(UTC))
    app = create_app(product.settings)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://siaran.test", headers={"X-Auth-Token": token}) as client,
    ):
        yield Viewer(stage, owner, client)


async def test_a_contacts_words_and_pictures_are_seen_by_the_owner(viewer: Viewer, contact: str) -> None:
    picture = make_jpeg((200, 0, 0))
    await viewer.stage.whatsapp.send_text(number=viewer.number, sender=contact, text="Hello", name="Budi")
    sent = await viewer.stage.whatsapp.send_media(
        number=viewer.number, sender=contact, content=b64encode(picture).decode(), caption="look"
    )

    await viewer.messages(contact, 2)
    by_text = {message["text"]: message for message in await viewer.messages(contact, 2)}
    assert by_text.keys() == {"Hello", "look"}
    assert (by_text["look"]["id"], by_text["look"]["mediaType"], by_text["look"]["sender"]) == (sent, "image", contact)
    assert (by_text["Hello"]["sent"], by_text["Hello"]["status"]) == (False, "received")
    chat = (await viewer.chats())[contact]
    assert (chat["name"], chat["unread"], chat["isGroup"]) == ("Budi", 2, False)

    async def is_fetched() -> bool:
        return any(message["mediaState"] == "kept" for message in await viewer.get(f"messages/{contact}"))

    await eventually(is_fetched)
    [url] = [message["mediaUrl"] for message in await viewer.get(f"messages/{contact}") if message["mediaUrl"]]
    file = await viewer.client.get(url)
    assert (file.status_code, file.content, file.headers["content-type"]) == (200, picture, "image/jpeg")


async def test_what_is_sent_from_the_phone_and_by_siaran_is_seen_with_its_ticks(viewer: Viewer, contact: str) -> None:
    whatsapp = viewer.stage.whatsapp
    await whatsapp.send_text(number=viewer.number, sender=contact, text="How much?")
    await viewer.messages(contact, 1)
    by_phone = await whatsapp.send_from_phone(number=viewer.number, recipient=contact, text="I will call you")
    await viewer.messages(contact, 2)
    await whatsapp.send_receipt(number=viewer.number, recipient=contact, ids=[by_phone], kind="read")

    async def is_read() -> bool:
        return any(message["status"] == "read" for message in await viewer.get(f"messages/{contact}"))

    await eventually(is_read)
    [phoned] = [message for message in await viewer.messages(contact, 2) if message["sent"]]
    assert (phoned["id"], phoned["text"], phoned["sender"]) == (by_phone, "I will call you", viewer.number)
    assert (await viewer.chats())[contact]["unread"] == 0

    campaign = await viewer.owner.send(1)
    assert await viewer.stage.ended(campaign) == {"sent": 1}
    [recipient] = viewer.owner.recipients[campaign]
    [by_siaran] = await viewer.messages(recipient, 1)
    assert (by_siaran["sent"], by_siaran["status"]) == (True, "sent")
    await whatsapp.send_receipt(number=viewer.number, recipient=recipient, ids=[by_siaran["id"]], kind="delivered")

    async def is_delivered() -> bool:
        return bool((await viewer.get(f"messages/{recipient}"))[0]["status"] == "delivered")

    await eventually(is_delivered)


async def test_a_group_is_one_chat(viewer: Viewer, contact: str) -> None:
    await viewer.stage.whatsapp.send_text(number=viewer.number, sender=contact, text="Hello all", chat=GROUP)

    [message] = await viewer.messages(GROUP, 1)
    assert (message["text"], message["sender"]) == ("Hello all", contact)
    assert (await viewer.chats())[GROUP]["isGroup"] is True


async def test_old_messages_of_the_phone_are_seen_and_are_no_news(viewer: Viewer) -> None:
    # The session learns a contact's number when it first writes to them.
    campaign = await viewer.owner.send(1)
    await viewer.stage.ended(campaign)
    [contact] = viewer.owner.recipients[campaign]
    old = {"contact": contact, "id": "OLD1", "text": "STOP", "from_me": False, "at": 1_700_000_000}
    await viewer.stage.whatsapp.send_history(number=viewer.number, messages=[old])

    new, message = await viewer.messages(contact, 2)
    assert (new["sent"], message["id"], message["text"], message["sent"]) == (True, "OLD1", "STOP", False)
    assert (await viewer.chats())[contact]["unread"] == 0
    opt_outs = await viewer.client.get("/api/opt-outs")
    assert opt_outs.json()["results"] == []


async def test_a_sync_reads_from_the_account(viewer: Viewer, contact: str) -> None:
    await viewer.stage.whatsapp.send_text(number=viewer.number, sender=contact, text="Hello")
    await viewer.messages(contact, 1)
    await viewer.stage.whatsapp.set_picture(number=contact, content=b64encode(make_jpeg()).decode())

    answer = await viewer.client.post(f"/api/devices/{viewer.device}/sync")

    assert answer.status_code == 200, answer.text
    assert answer.json()["results"]["pictures"] == 1
    assert (await viewer.chats())[contact]["avatar"].startswith("https://")
