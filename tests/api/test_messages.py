"""Single messages: test sends of campaigns and what became of them."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from httpx import AsyncClient, Response
from sqlalchemy import select, update

from siaran.db import SessionMaker
from siaran.models import ONE_OFF, BroadcastMessage, DeviceStatus, Lane, LaneState, Suppression
from tests.api.campaign_rows import add_device, add_leads, add_messages, create, user_id_of
from tests.api.conftest import another_client, register
from tests.media_files import upload

PHONE = "60123456789"


async def send(client: AsyncClient, campaign_id: int, *, key: str | None = None, **fields: Any) -> Response:
    body = {"phone": "012-345 6789", "wait_seconds": 0, **fields}
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(f"/api/campaigns/{campaign_id}/test", json=body, headers=headers)


async def rows(sessions: SessionMaker) -> list[BroadcastMessage]:
    async with sessions() as session:
        return list(await session.scalars(select(BroadcastMessage).order_by(BroadcastMessage.id)))


async def test_a_test_send_is_a_row_of_the_ledger_that_goes_first(api, sessions):
    client = await register(api)
    device = await add_device(sessions, await user_id_of(sessions))
    campaign = await create(client, message="{Hi|Hi} {{name}}, {{niche|friend}}", image_url=await upload(client))
    answer = await send(client, campaign["id"])
    assert answer.status_code == 202, answer.text
    result = answer.json()["results"]
    [row] = await rows(sessions)
    assert (row.source, row.campaign_id, row.recipient_phone, row.device_id) == (ONE_OFF, None, PHONE, device)
    assert (row.content, row.media_url, row.message_type) == ("Hi Aisyah, friend", campaign["image_url"], "image")
    assert (result["message_id"], result["status"], result["text"]) == (row.id, "pending", "Hi Aisyah, friend")
    assert (await client.get(f"/api/messages/{row.id}")).json()["results"] == result
    async with sessions() as session:
        assert (await session.get_one(Lane, device)).state == LaneState.RUNNING
    shown = (await client.get(f"/api/campaigns/{campaign['id']}")).json()["results"]
    assert shown["counts"]["total"] == 0
    assert (await client.delete(campaign["image_url"])).status_code == 409


async def test_a_lead_is_called_by_its_name(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    await add_device(sessions, user)
    await add_leads(sessions, user, 1, niche="EXSTART")
    phone = (await client.get("/api/leads")).json()["results"][0]["phone"]
    campaign = await create(client, message="{{name}} {{niche}} {{phone}}")
    assert (await send(client, campaign["id"], phone=phone)).json()["results"]["text"] == f"Ali EXSTART {phone}"


async def test_the_answer_waits_for_the_outcome(api, sessions):
    client = await register(api)
    await add_device(sessions, await user_id_of(sessions))
    campaign = await create(client)
    waiting = asyncio.create_task(send(client, campaign["id"], wait_seconds=15))
    while not await rows(sessions):  # noqa: ASYNC110 -- PostgreSQL has no event for it
        await asyncio.sleep(0.02)
    async with sessions.begin() as session:
        await session.execute(update(BroadcastMessage).values(status="sent", sent_at=datetime.now(UTC)))
    answer = await waiting
    assert answer.status_code == 200
    assert answer.json()["results"]["status"] == "sent"


async def test_devices_take_turns(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    devices = [await add_device(sessions, user, name) for name in ("A", "B", "C")]
    await add_device(sessions, user, "away", status=DeviceStatus.OFFLINE)
    campaign = await create(client)
    for _ in range(6):
        assert (await send(client, campaign["id"])).status_code == 202
    assert Counter(row.device_id for row in await rows(sessions)) == dict.fromkeys(devices, 2)


async def test_a_device_can_be_named_and_must_be_linked_and_ones_own(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    device = await add_device(sessions, user, status=DeviceStatus.OFFLINE)
    unlinked = await add_device(sessions, user, "new", status=DeviceStatus.LOGGED_OUT)
    campaign = await create(client)
    assert (await send(client, campaign["id"], device_id=str(device))).json()["results"]["device_id"] == str(device)
    assert (await send(client, campaign["id"], device_id=str(unlinked))).status_code == 409
    await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    for other in (foreign, uuid4()):
        refused = await send(client, campaign["id"], device_id=str(other))
        assert refused.status_code == 422
        assert refused.json()["errors"] == [{"field": "device_id", "reason": "is no device of yours"}]
    assert len(await rows(sessions)) == 1


async def test_without_a_linked_device_nothing_is_queued(api, sessions):
    client = await register(api)
    campaign = await create(client)
    refused = await send(client, campaign["id"])
    assert refused.status_code == 409
    assert "no device is linked" in refused.json()["detail"]
    assert await rows(sessions) == []


async def test_a_contact_who_opted_out_gets_no_test_either(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    await add_device(sessions, user)
    async with sessions.begin() as session:
        session.add(Suppression(user_id=user, phone=PHONE, reason="STOP"))
    refused = await send(client, (await create(client))["id"])
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "phone", "reason": "has opted out of your messages"}]
    assert await rows(sessions) == []


async def test_bad_input_is_refused_by_field(api, sessions):
    client = await register(api)
    await add_device(sessions, await user_id_of(sessions))
    campaign = await create(client)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"phone": "12"}, "phone"),
        ({"phone": "hello"}, "phone"),
        ({"phone": None}, "phone"),
        ({"device_id": "front"}, "device_id"),
        ({"wait_seconds": 60}, "wait_seconds"),
        ({"wait_seconds": -1}, "wait_seconds"),
    ]
    for fields, field in wrong:
        answer = await send(client, campaign["id"], **fields)
        assert answer.status_code == 422, fields
        assert [error["field"] for error in answer.json()["errors"]] == [field], fields
    assert (await send(client, campaign["id"], key="x" * 201)).status_code == 422
    assert (await client.get("/api/messages/0")).status_code == 422
    assert await rows(sessions) == []


async def test_a_key_sends_once_however_often_it_is_used(api, sessions):
    client = await register(api)
    user = await user_id_of(sessions)
    await add_device(sessions, user)
    await add_device(sessions, user)
    campaign = await create(client)
    answers = await asyncio.gather(*(send(client, campaign["id"], key="once") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["results"]["message_id"] for answer in answers}) == 1
    assert len(await rows(sessions)) == 1
    other = await send(client, campaign["id"], key="once", phone="0198765432")
    assert other.status_code == 409
    assert len(await rows(sessions)) == 1
    second = await register(api, email="badrul@example.com")
    await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    assert (await send(second, (await create(second))["id"], key="once")).status_code == 202
    assert len(await rows(sessions)) == 2


async def test_a_refused_test_leaves_its_key_free(api, sessions):
    client = await register(api)
    campaign = await create(client)
    assert (await send(client, campaign["id"], key="k")).status_code == 409
    await add_device(sessions, await user_id_of(sessions))
    assert (await send(client, campaign["id"], key="k")).status_code == 202


async def test_an_api_key_needs_the_scope_to_send(api, sessions):
    client = await register(api)
    await add_device(sessions, await user_id_of(sessions))
    campaign = await create(client)
    for scopes, status in ((["read", "write"], 403), (["send"], 202)):
        made = await client.post("/api/api-keys", json={"name": "script", "scopes": scopes})
        script = another_client(api, authorization=f"Bearer {made.json()['results']['key']}")
        assert (await send(script, campaign["id"])).status_code == status


async def test_someone_elses_message_does_not_exist(api, sessions):
    owner, other = await register(api), await register(api, email="badrul@example.com")
    campaign = await create(owner)
    device = await add_device(sessions, await user_id_of(sessions))
    [message] = await add_messages(sessions, campaign, device, ["failed"], error_message="No such number.")
    shown = (await owner.get(f"/api/messages/{message}")).json()["results"]
    assert (shown["status"], shown["error_message"], shown["campaign_id"]) == ("failed", "No such number.", campaign["id"])
    assert (await other.get(f"/api/messages/{message}")).status_code == 404
    assert (await other.get("/api/messages/987654")).status_code == 404
    assert (await api.get(f"/api/messages/{message}")).status_code == 401
    assert (await send(other, campaign["id"])).status_code == 404
