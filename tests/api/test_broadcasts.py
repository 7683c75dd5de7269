"""Broadcasts: a message to a list of numbers, with a verdict for each, progress, and an end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import select, update

from siaran.db import SessionMaker
from siaran.models import Broadcast, BroadcastMessage, DeviceStatus, Lane, LaneState, Suppression, broadcast_source
from siaran.settings import Settings
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import another_client, register
from tests.media_files import WebServer, open_web_server, pdf, png, upload

PHONES = ["012-345 6701", "+60123456702"]


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


async def send(client: AsyncClient, phones: Any = PHONES, *, key: str | None = None, **fields: Any) -> Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post("/send/broadcast", json={"phones": phones, "message": "Hi", **fields}, headers=headers)


async def queued(answer: Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    results: dict[str, Any] = answer.json()["results"]
    return results


async def read(client: AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


async def rows(sessions: SessionMaker) -> list[BroadcastMessage]:
    async with sessions() as session:
        return list(await session.scalars(select(BroadcastMessage).order_by(BroadcastMessage.id)))


async def set_status(sessions: SessionMaker, message_id: int, **columns: Any) -> None:
    async with sessions.begin() as session:
        await session.execute(update(BroadcastMessage).where(BroadcastMessage.id == message_id).values(columns))


async def test_everyone_on_the_list_who_may_get_it_is_queued_with_a_verdict_for_each(aisyah, device, sessions):
    async with sessions.begin() as session:
        session.add(Suppression(user_id=await user_id_of(sessions), phone="60123456703", reason="STOP"))
    await aisyah.post("/api/leads", json={"name": "Siti", "phone": "0123456702", "niche": "EXSTART"})
    made = await queued(await send(aisyah, [*PHONES, "60123456701@s.whatsapp.net", "0123456703", "12"]))
    assert [(line["phone"], line["verdict"]) for line in made["verdicts"]] == [
        ("60123456701", "queued"),
        ("60123456702", "queued"),
        ("60123456701", "duplicate"),
        ("60123456703", "opted_out"),
        (None, "invalid"),
    ]
    assert all(line["reason"] for line in made["verdicts"][2:])
    assert (made["messages"], made["device_id"], made["cancelled_at"]) == (2, str(device), None)
    found = await rows(sessions)
    source = broadcast_source(UUID(made["id"]))
    assert [(row.source, row.recipient_phone, row.recipient_name) for row in found] == [
        (source, "60123456701", ""), (source, "60123456702", "Siti"),
    ]  # fmt: skip
    assert {(row.content, row.message_type, row.status, row.device_id) for row in found} == {("Hi", "text", "pending", device)}
    async with sessions() as session:
        assert (await session.get_one(Lane, device)).state == LaneState.RUNNING


async def test_progress_is_counted_and_messages_are_listed(aisyah, device, sessions):
    phones = [f"6012345{number:04}" for number in range(5)]
    made = await queued(await send(aisyah, phones))
    other = await queued(await send(aisyah, phones[:2]))
    path = f"/api/broadcasts/{made['id']}"
    first, second, *_ = await rows(sessions)
    await set_status(sessions, first.id, status="sent")
    await set_status(sessions, second.id, status="failed", error_code="not_on_whatsapp", error_message="No account.")
    shown = await read(aisyah, path)
    assert (shown["counts"], shown["is_finished"]) == ({"sent": 1, "failed": 1, "pending": 3}, False)
    assert [broadcast["id"] for broadcast in await read(aisyah, "/api/broadcasts")] == [other["id"], made["id"]]
    page = (await aisyah.get(f"{path}/messages", params={"limit": 2})).json()
    assert [row["phone"] for row in page["results"]] == phones[:2]
    rest = (await aisyah.get(f"{path}/messages", params={"limit": 4, "cursor": page["next_cursor"]})).json()
    assert ([row["phone"] for row in rest["results"]], rest["next_cursor"]) == (phones[2:], None)
    [failed] = await read(aisyah, f"{path}/messages?status=failed")
    assert (failed["message_id"], failed["error_code"], failed["error_message"]) == (
        second.id,
        "not_on_whatsapp",
        "No account.",
    )


async def test_the_rest_of_a_broadcast_can_be_cancelled(aisyah, device, sessions):
    made = await queued(await send(aisyah, [f"6012345{number:04}" for number in range(4)]))
    one_off = (await aisyah.post("/send/message", json={"phone": PHONES[0], "message": "Hi", "wait_seconds": 0})).json()
    first, second, *_ = await rows(sessions)
    await set_status(sessions, first.id, status="sent")
    await set_status(sessions, second.id, status="claimed")
    cancelled = await aisyah.post(f"/api/broadcasts/{made['id']}/cancel")
    shown = cancelled.json()["results"]
    assert (shown["counts"], shown["is_finished"]) == ({"sent": 1, "claimed": 1, "cancelled": 2}, False)
    assert shown["cancelled_at"] is not None
    await set_status(sessions, second.id, status="sent")
    again = (await aisyah.post(f"/api/broadcasts/{made['id']}/cancel")).json()["results"]
    log = await read(aisyah, f"/api/activity?device_id={device}&kind=broadcast")
    assert [(line["kind"], line["subject"], line["details"]["messages"]) for line in log] == [
        ("broadcast.cancelled", f"broadcast:{made['id']}", 2), ("broadcast.queued", f"broadcast:{made['id']}", 4),
    ]  # fmt: skip
    assert (again["cancelled_at"], again["is_finished"]) == (shown["cancelled_at"], True)
    assert (await read(aisyah, f"/api/messages/{one_off['results']['message_id']}"))["status"] == "pending"


async def test_a_broadcast_carries_a_file(aisyah, device, sessions, web):
    url = web.serve("/prices.pdf", pdf())
    made = await queued(await send(aisyah, image_url=url, message=""))
    assert made["message_type"] == "document"
    assert {(row.message_type, row.media_url) for row in await rows(sessions)} == {("document", made["image_url"])}
    assert (await aisyah.delete(made["image_url"])).status_code == 409
    await aisyah.post(f"/api/broadcasts/{made['id']}/cancel")
    assert (await aisyah.delete(made["image_url"])).status_code == 200
    named = await queued(await send(aisyah, image_url=await upload(aisyah, png())))
    assert named["message_type"] == "image"


BAD: list[tuple[dict[str, Any], set[str]]] = [
    ({"phones": []}, {"phones"}),
    ({"phones": None}, {"phones"}),
    ({"phones": ["0123456701"] * 1001}, {"phones"}),
    ({"phones": ["12", "x"]}, {"phones.0", "phones.1"}),
    ({"phones": ["x" * 65]}, {"phones.0"}),
    ({"message": " "}, {"message"}),
    ({"message": "a\0b"}, {"message"}),
    ({"message": "Hi {{nmae}}"}, {"message"}),
    ({"image_url": "file:///etc/passwd"}, {"image_url"}),
    ({"image_url": "/api/media/00000000-0000-0000-0000-000000000000"}, {"image_url"}),
    ({"device_id": "front"}, {"device_id"}),
    ({"device_id": str(uuid4())}, {"device_id"}),
]


async def test_bad_input_is_refused_by_field_and_nothing_is_queued(aisyah, device, sessions, web):
    for fields, expected in BAD:
        answer = await send(aisyah, **{"image_url": None, **fields})
        assert answer.status_code == 422, (fields, answer.text)
        assert {error["field"] for error in answer.json()["errors"]} == expected, fields
    assert (await send(aisyah, ["12"], image_url=web.serve("/a.png", png()))).status_code == 422
    assert web.asked == []
    assert await rows(sessions) == []
    async with sessions() as session:
        assert (await session.scalars(select(Broadcast))).all() == []


async def test_nobody_gets_a_broadcast_from_another_device_than_the_one_asked_for(aisyah, device, sessions):
    away = await add_device(sessions, await user_id_of(sessions), "away", status=DeviceStatus.OFFLINE)
    assert [error["field"] for error in (await send(aisyah)).json()["errors"]] == ["device_id"]
    assert (await queued(await send(aisyah, device_id=str(away))))["device_id"] == str(away)


async def test_a_key_queues_once(aisyah, device, sessions):
    answers = await asyncio.gather(*(send(aisyah, key="once") for _ in range(4)))
    assert len({(await queued(answer))["id"] for answer in answers}) == 1
    assert len(await rows(sessions)) == 2
    assert (await send(aisyah, key="once", message="Other")).status_code == 409
    # Whoever opts out meanwhile changes nothing about what was asked.
    async with sessions.begin() as session:
        user = await user_id_of(sessions)
        session.add_all(Suppression(user_id=user, phone=f"6012345670{digit}", reason="STOP") for digit in (1, 2))
    assert (await send(aisyah, key="once")).status_code == 201
    assert len(await rows(sessions)) == 2


async def test_someone_elses_broadcast_does_not_exist(aisyah, device, sessions, api):
    made = await queued(await send(aisyah))
    badrul = await register(api, email="badrul@example.com")
    path = f"/api/broadcasts/{made['id']}"
    assert (await badrul.get(path)).status_code == 404
    assert (await badrul.get(f"{path}/messages")).status_code == 404
    assert (await badrul.post(f"{path}/cancel")).status_code == 404
    assert await read(badrul, "/api/broadcasts") == []
    assert {row.status for row in await rows(sessions)} == {"pending"}
    refused = await send(badrul, device_id=str(device))
    assert [error["field"] for error in refused.json()["errors"]] == ["device_id"]


async def test_an_api_key_needs_the_scope_to_send(aisyah, device, api):
    for scopes, status in ((["read", "write"], 403), (["send"], 201)):
        made = await aisyah.post("/api/api-keys", json={"name": "script", "scopes": scopes})
        script = another_client(api, authorization=f"Bearer {made.json()['results']['key']}")
        assert (await send(script)).status_code == status
