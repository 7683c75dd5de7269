"""Sending at once through the API, a host and the real client, as recipients see it; number checks and automatic replies."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import func, select, update

from api.app import create_app
from siaran.models import Device, IncomingMessage, User
from tests.api.conftest import BASE_URL, register
from tests.whatsapp.images import make_jpeg
from tests.whatsapp.stage import Owner, Stage
from tests.whatsapp_server.record import Transmission

pytestmark = [pytest.mark.whatsapp, pytest.mark.xdist_group("hosts")]

REPLY = "We are back on Monday."


@dataclass(frozen=True)
class Shop:
    """Somebody with one linked device, and their log-in."""

    stage: Stage
    client: AsyncClient
    device: UUID
    number: str

    async def send(self, kind: str, to: str, **fields: Any) -> Response:
        """Ask for a message to a contact and wait for its end."""
        body = {"phone": f"{to}@s.whatsapp.net", "device_id": str(self.device), "wait_seconds": 20, **fields}
        return await self.client.post(f"/send/{kind}", json=body)

    async def upload(self, kind: str, to: str, name: str, content: bytes, **fields: Any) -> Response:
        """The same for a file that is uploaded with a form."""
        form = {"phone": f"{to}@s.whatsapp.net", "device_id": str(self.device), "wait_seconds": "20", **fields}
        return await self.client.post(f"/send/{kind}", data=form, files={kind: (name, content)})

    async def seen(self, contact: str) -> list[Transmission]:
        """What a contact has been sent."""
        return [seen for seen in await self.stage.whatsapp.record(self.number) if seen.recipient == contact]


@pytest.fixture
async def shop(stage: Stage) -> AsyncIterator[Shop]:
    """A device that is online and hardly pauses."""
    app = create_app(stage.product.settings)
    email = f"{uuid4()}@example.com"
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as api:
        client = await register(api, email=email)
        async with stage.product.sessions() as session:
            owner = Owner(stage, (await session.scalars(select(User).where(User.email == email))).one())
        stage.owners.append(owner)
        [device] = await owner.link(await stage.accounts(1))
        async with stage.product.sessions.begin() as session:
            no_gaps = {"min_delay_seconds": 0, "max_delay_seconds": 0}
            await session.execute(update(Device).where(Device.id == device).values(no_gaps))
        await stage.until(lambda: stage.are_online([device]))
        yield Shop(stage, client, device, owner.number(device))


def results(answer: Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["results"]
    assert found["status"] in {"sent", "delivered", "read"}, found
    return found


async def test_every_kind_of_message_reaches_its_recipient_as_it_was_meant(shop: Shop, contact: str) -> None:
    sent = [
        results(await shop.send("message", contact, message="Selamat pagi ☀")),
        results(await shop.send("link", contact, link="https://example.com/a", caption="Look")),
        results(await shop.send("location", contact, latitude="3.125", longitude="101.5", name="Shop")),
        results(await shop.send("contact", contact, contact_name="Aminah", contact_phone="012-345 6789")),
        results(await shop.send("poll", contact, question="When?", options=["Monday", "Tuesday"], max_answer=2)),
        results(await shop.upload("image", contact, "shop.jpg", make_jpeg(), caption="our shop")),
        results(await shop.upload("audio", contact, "voice.mp3", b"ID3" + bytes(60))),
        results(await shop.upload("file", contact, "shop.jpg", make_jpeg())),
    ]
    seen = await shop.seen(contact)
    assert [one["whatsapp_id"] for one in sent] == [one.id for one in seen]
    assert [one.type for one in seen] == ["text", "text", "location", "contact", "poll", "image", "audio", "document"]
    assert [seen[0].text, seen[1].text, seen[4].text, seen[5].text] == [
        "Selamat pagi ☀", "Look\nhttps://example.com/a", "When?: Monday, Tuesday (2)", "our shop",
    ]  # fmt: skip
    assert ("3.125 101.5 Shop" in seen[2].text, "+60123456789" in seen[3].text) == (True, True)
    image, audio, document = (one.media for one in seen[5:])
    assert image is not None
    assert audio is not None
    assert document is not None
    assert image.sha256 == document.sha256 == hashlib.sha256(make_jpeg()).hexdigest()
    assert audio.mime_type == "audio/mpeg"


async def test_what_whatsapp_refuses_is_answered_with_its_reason(shop: Shop, contact: str) -> None:
    await shop.stage.whatsapp.answer_messages(answer="refuse", code=479, number=shop.number, times=1)
    answer = await shop.send("message", contact, message="Hi")
    assert answer.status_code == 200
    failed = answer.json()["results"]
    assert (failed["status"], "479" in failed["error_code"], bool(failed["error_message"])) == ("failed", True, True)


async def test_a_number_without_an_account_is_refused_before_anything_is_sent(shop: Shop, contact: str) -> None:
    absent = f"{contact}0"
    await shop.stage.whatsapp.unregister(numbers=[absent])
    refused = await shop.send("message", absent, message="Hi")
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"] == [{"field": "phone", "reason": "has no WhatsApp account"}]
    assert await shop.seen(absent) == []
    for number, expected in ((absent, False), (contact, True)):
        parameters = {"phone": f"{number}@s.whatsapp.net", "device_id": str(shop.device)}
        checked = await shop.client.get("/user/check", params=parameters)
        assert checked.status_code == 200, checked.text
        assert checked.json()["results"]["is_on_whatsapp"] is expected


async def test_a_contact_who_writes_is_answered_once_and_a_group_never(shop: Shop, contact: str) -> None:
    changed = await shop.client.put("/api/settings", json={"auto_reply": REPLY})
    assert changed.status_code == 200, changed.text
    whatsapp = shop.stage.whatsapp
    member = f"{contact}1"
    await whatsapp.send_text(number=shop.number, sender=member, text="Hi all", chat="120363021234567890@g.us")
    for question in ("Are you open?", "Hello?", "Anybody?"):
        await whatsapp.send_text(number=shop.number, sender=contact, text=question)

    async def has_heard() -> bool:
        query = select(func.count()).select_from(IncomingMessage).where(IncomingMessage.device_id == shop.device)
        async with shop.stage.product.sessions() as session:
            return await session.scalar(query) == 3 and bool(await shop.seen(contact))

    await shop.stage.until(has_heard)
    results(await shop.send("message", contact, message="Yes, from nine"))
    results(await shop.send("message", member, message="Hi"))
    assert [seen.text for seen in await shop.seen(contact)] == [REPLY, "Yes, from nine"]
    assert [seen.text for seen in await shop.seen(member)] == ["Hi"]
