"""Sending at once: every kind of message by the paths of the original, as rows of the ledger that go first."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import func, select, update

from siaran.db import SessionMaker
from siaran.models import ONE_OFF, BroadcastMessage, DeviceStatus, Lane, LaneState, Media, MessageStatus, Suppression
from siaran.settings import Settings
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import another_client, register
from tests.media_files import WebServer, jpeg, mp4, open_web_server, pdf, png, upload

PHONE = "60123456789"
ADDRESS = f"{PHONE}@s.whatsapp.net"
MP3 = b"ID3" + bytes(40)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Files may be fetched from this machine."""
    return settings.model_copy(update={"allow_private_targets": True})


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    """A web server on loopback."""
    async with open_web_server() as web:
        yield web


@pytest.fixture
async def aisyah(api: AsyncClient) -> AsyncClient:
    """Somebody who is logged in."""
    return await register(api)


@pytest.fixture
async def device(aisyah: AsyncClient, sessions: SessionMaker) -> UUID:
    """Her one device, online."""
    return await add_device(sessions, await user_id_of(sessions))


async def send(client: AsyncClient, kind: str, *, key: str | None = None, **fields: Any) -> Response:
    body = {"phone": ADDRESS, "wait_seconds": 0, **fields}
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"/send/{kind}", json=body, headers=headers)


async def queued(answer: Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    results: dict[str, Any] = answer.json()["results"]
    assert results["status"] == "queued"
    return results


def reasons(answer: Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def rows(sessions: SessionMaker) -> list[BroadcastMessage]:
    async with sessions() as session:
        return list(await session.scalars(select(BroadcastMessage).order_by(BroadcastMessage.id)))


async def stored_files(sessions: SessionMaker) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(Media)) or 0


async def test_a_text_is_a_row_of_the_ledger_that_goes_first(aisyah, device, sessions):
    sent = await queued(await send(aisyah, "message", message="{{name}} {a|b}", device_id=str(device)))
    [row] = await rows(sessions)
    assert (row.source, row.campaign_id, row.recipient_phone, row.device_id) == (ONE_OFF, None, PHONE, device)
    assert (row.message_type, row.content, row.status) == ("text", "{{name}} {a|b}", MessageStatus.PENDING)
    assert (sent["message_id"], sent["phone"], sent["device_id"]) == (row.id, PHONE, str(device))
    assert (await aisyah.get(f"/api/messages/{row.id}")).json()["results"]["status"] == "pending"
    [line] = (await aisyah.get("/api/activity", params={"device_id": str(device), "kind": "message"})).json()["results"]
    assert (line["kind"], line["subject"], line["details"]) == ("message.queued", f"message:{row.id}", {"message_type": "text"})
    async with sessions() as session:
        assert (await session.get_one(Lane, device)).state == LaneState.RUNNING


async def test_the_answer_waits_for_the_outcome_and_says_why_it_failed(aisyah, device, sessions):
    sending = asyncio.create_task(send(aisyah, "message", message="Hi", wait_seconds=15))
    while not await rows(sessions):  # noqa: ASYNC110 -- PostgreSQL has no event for it
        await asyncio.sleep(0.02)
    ended = {"status": "failed", "error_code": "not_on_whatsapp", "error_message": "This number has no WhatsApp account."}
    async with sessions.begin() as session:
        await session.execute(update(BroadcastMessage).values(ended))
    answer = await sending
    assert answer.status_code == 200
    assert {name: answer.json()["results"][name] for name in ended} == ended


async def test_a_sent_message_is_answered_as_sent(aisyah, device, sessions):
    sending = asyncio.create_task(send(aisyah, "message", message="Hi", wait_seconds=15))
    while not await rows(sessions):  # noqa: ASYNC110 -- PostgreSQL has no event for it
        await asyncio.sleep(0.02)
    async with sessions.begin() as session:
        await session.execute(update(BroadcastMessage).values(status="sent", sent_at=datetime.now(UTC)))
    answer = await sending
    assert (answer.status_code, answer.json()["results"]["status"]) == (200, "sent")


CONTENTS = [
    ("link", {"link": "https://example.com/a", "caption": "Look"}, "text", "Look\nhttps://example.com/a"),
    (
        "location",
        {"latitude": "3.1579", "longitude": "101.7116", "name": " KLCC "},
        "location",
        {"latitude": 3.1579, "longitude": 101.7116, "name": "KLCC", "address": ""},
    ),
    (
        "contact",
        {"contact_name": "Siti", "contact_phone": "012-345 6700"},
        "contact",
        {"name": "Siti", "phone": "60123456700"},
    ),
    (
        "poll",
        {"question": "When?", "options": ["Mon", "Tue", "Wed"], "max_answer": 2},
        "poll",
        {"question": "When?", "options": ["Mon", "Tue", "Wed"], "selectable": 2},
    ),
]


@pytest.mark.parametrize(("kind", "fields", "message_type", "content"), CONTENTS, ids=[case[0] for case in CONTENTS])
async def test_what_is_no_file_is_kept_as_its_transport_reads_it(
    aisyah, device, sessions, kind: str, fields: dict[str, Any], message_type: str, content: Any
):
    await queued(await send(aisyah, kind, **fields))
    form = {"phone": ADDRESS, "wait_seconds": "0", **fields}
    await queued(await aisyah.post(f"/send/{kind}", data=form))
    for row in await rows(sessions):
        assert row.message_type == message_type
        assert (row.content if isinstance(content, str) else json.loads(row.content or "")) == content


async def test_answers_show_in_words_what_is_kept_as_json(aisyah, device):
    poll = await queued(await send(aisyah, "poll", question="When?", options=["Mon", "Tue"], max_answer=1))
    assert poll["text"] == "Poll: When?\n- Mon\n- Tue"
    place = await queued(await send(aisyah, "location", latitude=3.5, longitude=-101, name="KLCC"))
    assert place["text"] == "Location: KLCC, 3.500000, -101.000000"
    card = await queued(await send(aisyah, "contact", contact_name="Siti", contact_phone=PHONE))
    assert card["text"] == f"Contact: Siti, +{PHONE}"
    shown = (await aisyah.get(f"/api/messages/{card['message_id']}")).json()["results"]
    assert shown["text"] == card["text"]


FILES = [
    ("image", "promo.png", png(), "image", "image/png"),
    ("file", "prices.pdf", pdf(), "document", "application/pdf"),
    ("file", "promo.png", png(), "document", "image/png"),
    ("video", "promo.mp4", mp4(), "video", "video/mp4"),
    ("audio", "voice.mp3", MP3, "audio", "audio/mpeg"),
]


@pytest.mark.parametrize(
    ("kind", "name", "content", "message_type", "mime_type"), FILES, ids=[f"{case[0]}-{case[1]}" for case in FILES]
)
async def test_a_file_is_uploaded_or_fetched_or_named(
    aisyah, device, sessions, web, kind: str, name: str, content: bytes, message_type: str, mime_type: str
):
    form = {"phone": ADDRESS, "caption": "New", "wait_seconds": "0", "device_id": str(device)}
    answer = await aisyah.post(f"/send/{kind}", data=form, files={kind: (name, content, mime_type)})
    uploaded = await queued(answer)
    fetched = await queued(await send(aisyah, kind, caption="New", **{f"{kind}_url": web.serve(f"/{name}", content)}))
    named = await queued(await send(aisyah, kind, caption="New", **{f"{kind}_url": uploaded["media_url"]}))
    assert {sent["media_url"] for sent in (uploaded, fetched, named)} == {uploaded["media_url"]}
    for row in await rows(sessions):
        assert (row.message_type, row.media_url) == (message_type, uploaded["media_url"])
        assert row.content == ("" if kind == "audio" else "New")
    assert (await aisyah.get(uploaded["media_url"])).content == content
    assert (await aisyah.delete(uploaded["media_url"])).status_code == 409


async def test_a_file_of_another_kind_is_refused(aisyah, device, sessions):
    answer = await aisyah.post("/send/image", data={"phone": ADDRESS}, files={"image": ("a.mp4", mp4(), "video/mp4")})
    assert "video/mp4" in reasons(answer)["image"]
    answer = await aisyah.post("/send/image", data={"phone": ADDRESS}, files={"image": ("a.png", png(), "video/mp4")})
    assert "is declared as video/mp4" in reasons(answer)["image"]
    assert "image/jpeg" in reasons(await send(aisyah, "video", video_url=await upload(aisyah, jpeg(), "a.jpg")))["video_url"]
    assert await rows(sessions) == []


async def test_an_empty_file_field_of_a_form_is_none(aisyah, device):
    form = {"phone": ADDRESS, "image_url": ""}
    answer = await aisyah.post("/send/image", data=form, files={"image": ("", b"", "application/octet-stream")})
    assert reasons(answer) == {"image_url": "is required for image"}


async def test_fields_of_a_form_that_are_left_empty_are_left_out(aisyah, device):
    form = {
        "phone": ADDRESS,
        "device_id": "",
        "wait_seconds": "0",
        "options[]": ["Mon", "Tue"],
        "question": "?",
        "max_answer": "",
    }
    poll = await queued(await aisyah.post("/send/poll", data=form))
    assert poll["text"] == "Poll: ?\n- Mon\n- Tue"
    answer = await aisyah.post("/send/message", data={"phone": "", "message": "Hi", "wait_seconds": ""})
    assert set(reasons(answer)) == {"phone"}


async def test_what_can_be_refused_is_refused_before_a_file_is_fetched_or_stored(aisyah, device, sessions, web):
    url = web.serve("/promo.png", png())
    assert set(reasons(await send(aisyah, "image", phone="12", image_url=url))) == {"phone"}
    answer = await aisyah.post("/send/image", data={"phone": "12"}, files={"image": ("a.png", png(), "image/png")})
    assert set(reasons(answer)) == {"phone"}
    assert set(reasons(await send(aisyah, "image", device_id=str(uuid4()), image_url=url))) == {"device_id"}
    assert (web.asked, await stored_files(sessions), await rows(sessions)) == ([], 0, [])


@pytest.mark.parametrize(
    ("phone", "reason"),
    [
        ("120363021234567890@g.us", "is a group"),
        ("120363021234567890@newsletter", "is a channel"),
        ("status@broadcast", "is a broadcast list"),
        ("123456789012345@lid", "is a hidden id"),
        ("60123456789@example.com", "is no address of a contact"),
        ("me@s.whatsapp.net", "is no address of a contact"),
    ],
)
async def test_only_contacts_are_written_to(aisyah, device, sessions, phone: str, reason: str):
    assert reason in reasons(await send(aisyah, "message", phone=phone, message="Hi"))["phone"]
    assert await rows(sessions) == []


@pytest.mark.parametrize(
    "phone", [PHONE, "+60 12-345 6789", "0123456789", ADDRESS, f"{PHONE}:12@s.whatsapp.net", f"{PHONE}@c.us"]
)
async def test_a_phone_is_understood_in_every_usual_form(aisyah, device, phone: str):
    assert (await queued(await send(aisyah, "message", phone=phone, message="Hi")))["phone"] == PHONE


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("message", {}, "message"),
    ("message", {"message": " "}, "message"),
    ("message", {"message": "a\0b"}, "message"),
    ("message", {"message": "x" * 65_537}, "message"),
    ("message", {"message": "Hi", "phone": None}, "phone"),
    ("message", {"message": "Hi", "device_id": "front"}, "device_id"),
    ("message", {"message": "Hi", "wait_seconds": 60}, "wait_seconds"),
    ("link", {"link": "example.com"}, "link"),
    ("link", {"link": "javascript:alert(1)"}, "link"),
    ("link", {"link": "https://example.com", "caption": "a\0b"}, "caption"),
    ("image", {}, "image_url"),
    ("image", {"image_url": "file:///etc/passwd"}, "image_url"),
    ("image", {"image_url": "/api/media/00000000-0000-0000-0000-000000000000"}, "image_url"),
    ("image", {"image_url": "http://127.0.0.1:1/a.png"}, "image_url"),
    ("file", {"caption": "x"}, "file_url"),
    ("video", {}, "video_url"),
    ("audio", {}, "audio_url"),
    ("location", {"latitude": 91, "longitude": 0}, "latitude"),
    ("location", {"latitude": 0, "longitude": -181}, "longitude"),
    ("location", {"latitude": "north", "longitude": 0}, "latitude"),
    ("location", {"latitude": 0, "longitude": 0, "name": "x" * 256}, "name"),
    ("contact", {"contact_name": " ", "contact_phone": PHONE}, "contact_name"),
    ("contact", {"contact_name": "Siti", "contact_phone": "12"}, "contact_phone"),
    ("poll", {"question": "?", "options": ["one"], "max_answer": 1}, "options"),
    ("poll", {"question": "?", "options": ["a", "a"], "max_answer": 1}, "options"),
    ("poll", {"question": "?", "options": ["a", " "], "max_answer": 1}, "options.1"),
    ("poll", {"question": "?", "options": ["a", "b"], "max_answer": 0}, "max_answer"),
    ("poll", {"question": "?", "options": ["a", "b"], "max_answer": 3}, "max_answer"),
    ("poll", {"question": "", "options": ["a", "b"], "max_answer": 1}, "question"),
    ("poll", {"question": "?", "options": "a"}, "options"),
]


async def test_bad_input_is_refused_by_field(aisyah, device, sessions):
    for kind, fields, field in BAD:
        assert set(reasons(await send(aisyah, kind, **fields))) == {field}, (kind, fields)
    answer = await aisyah.post("/send/message", content=b"{", headers={"Content-Type": "application/json"})
    assert set(reasons(answer)) == {"body"}
    assert set(reasons(await send(aisyah, "message", message="Hi", key="x" * 201))) == {"idempotency-key"}
    assert await rows(sessions) == []


async def test_the_device_is_the_one_asked_for_or_the_only_one(aisyah, device, sessions, api):
    user = await user_id_of(sessions)
    assert (await queued(await send(aisyah, "message", message="Hi")))["device_id"] == str(device)
    second = await add_device(sessions, user, "away", status=DeviceStatus.OFFLINE)
    assert "is required" in reasons(await send(aisyah, "message", message="Hi"))["device_id"]
    # A device that is away keeps the message; no other one steps in.
    assert (await queued(await send(aisyah, "message", message="Hi", device_id=str(second))))["device_id"] == str(second)
    unlinked = await add_device(sessions, user, "new", status=DeviceStatus.LOGGED_OUT)
    assert (await send(aisyah, "message", message="Hi", device_id=str(unlinked))).status_code == 409
    await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    assert reasons(await send(aisyah, "message", message="Hi", device_id=str(foreign))) == {
        "device_id": "is no device of yours"
    }
    assert [row.device_id for row in await rows(sessions)] == [device, second]


async def test_nobody_can_send_someone_elses_file_or_read_their_message(aisyah, device, sessions, api):
    badrul = await register(api, email="badrul@example.com")
    await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    theirs = await upload(badrul)
    assert set(reasons(await send(aisyah, "image", image_url=theirs))) == {"image_url"}
    sent = await queued(await send(badrul, "image", image_url=theirs))
    assert (await aisyah.get(f"/api/messages/{sent['message_id']}")).status_code == 404


async def test_a_contact_who_opted_out_gets_nothing(aisyah, device, sessions):
    async with sessions.begin() as session:
        session.add(Suppression(user_id=await user_id_of(sessions), phone=PHONE, reason="STOP"))
    assert reasons(await send(aisyah, "message", message="Hi")) == {"phone": "has opted out of your messages"}
    assert await rows(sessions) == []


async def test_a_key_sends_once_whatever_the_message_carries(aisyah, device, sessions, web):
    answers = await asyncio.gather(*(send(aisyah, "message", message="Hi", key="text") for _ in range(4)))
    assert len({answer.json()["results"]["message_id"] for answer in answers}) == 1
    assert (await send(aisyah, "message", message="Ho", key="text")).status_code == 409
    url = web.serve("/promo.png", png())
    first = await queued(await send(aisyah, "image", image_url=url, key="url"))
    web.serve("/promo.png", jpeg())
    assert await queued(await send(aisyah, "image", image_url=url, key="url")) == first
    form = {"phone": ADDRESS, "wait_seconds": "0"}
    for _ in range(2):
        files = {"image": ("a.png", png("blue"), "image/png")}
        await queued(await aisyah.post("/send/image", data=form, files=files, headers={"Idempotency-Key": "upload"}))
    assert len(await rows(sessions)) == 3


async def test_an_api_key_needs_the_scope_to_send(aisyah, device, api):
    for scopes, status in ((["read", "write"], 403), (["send"], 202)):
        made = await aisyah.post("/api/api-keys", json={"name": "script", "scopes": scopes})
        script = another_client(api, authorization=f"Bearer {made.json()['results']['key']}")
        assert (await send(script, "message", message="Hi")).status_code == status
