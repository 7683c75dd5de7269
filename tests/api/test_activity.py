"""The activity log over HTTP: what a user did and what happened, newest first, nobody else's."""

import json

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from siaran.models import Activity
from tests.api.campaign_rows import TOMORROW, Row, add_device, add_messages, create, put_under_way, user_id_of
from tests.api.conftest import register


@pytest.fixture
async def client(api):
    return await register(api)


async def log_of(client: AsyncClient, **params: str | int) -> list[Row]:
    answer = await client.get("/api/activity", params=params)
    assert answer.status_code == 200, answer.text
    results: list[Row] = answer.json()["results"]
    return results


async def test_what_is_done_to_a_campaign_is_noted_newest_first(client):
    campaign = await create(client, title="Merdeka")
    path = f"/api/campaigns/{campaign['id']}"
    await client.put(path, json={"title": "Merdeka promo"})
    await client.post(f"{path}/pause")
    await client.post(f"{path}/pause")
    await client.post(f"{path}/resume")
    await client.post(f"{path}/reschedule", json={"campaign_date": TOMORROW, "scheduled_time": "23:59"})
    await client.post(f"{path}/cancel")
    await client.delete(path)
    log = await log_of(client)
    assert [line["kind"] for line in reversed(log)] == [
        "campaign.created",
        "campaign.edited",
        "campaign.paused",
        "campaign.resumed",
        "campaign.rescheduled",
        "campaign.cancelled",
        "campaign.deleted",
    ]
    assert {(line["subject"], line["name"]) for line in log} == {(f"campaign:{campaign['id']}", "Merdeka promo")}
    assert next(line for line in log if line["kind"] == "campaign.edited")["details"] == {"fields": ["title"]}


async def test_what_is_refused_is_not_noted(client):
    campaign = await create(client)
    await client.post(f"/api/campaigns/{campaign['id']}/cancel")
    before = await log_of(client)
    assert (await client.post(f"/api/campaigns/{campaign['id']}/pause")).status_code == 409
    assert (await client.put(f"/api/campaigns/{campaign['id']}", json={"title": ""})).status_code in {409, 422}
    assert await log_of(client) == before


async def test_what_happens_to_a_device_is_noted_and_can_be_picked(client):
    made = [(await client.post("/api/devices", json={"name": name})).json()["results"]["device"] for name in ("Front", "Back")]
    await create(client)
    await client.delete(f"/api/devices/{made[0]['id']}")
    log = await log_of(client, device_id=made[0]["id"])
    assert [(line["kind"], line["name"]) for line in log] == [("device.removed", "Front"), ("device.added", "Front")]
    assert [line["kind"] for line in await log_of(client, kind="device")] == ["device.removed", "device.added", "device.added"]
    assert [line["name"] for line in await log_of(client, kind="device.added")] == ["Back", "Front"]
    assert await log_of(client, kind="dev") == []


async def test_a_retry_says_how_many_messages_it_took(client, sessions):
    campaign = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    await add_messages(sessions, campaign, device, ["failed", "failed", "sent"])
    await put_under_way(sessions, campaign["id"])
    await client.post(f"/api/campaigns/{campaign['id']}/retry-failed")
    await client.post(f"/api/campaigns/{campaign['id']}/retry-failed")
    (line,) = await log_of(client, kind="campaign.retried")
    assert line["details"] == {"messages": 2}


async def test_no_line_holds_a_text_or_a_phone(client, sessions):
    campaign = await create(client, message="Salam from 60123456789")
    await client.put(f"/api/campaigns/{campaign['id']}", json={"message": "Hello from 60123456789"})
    async with sessions() as session:
        lines = list(await session.scalars(select(Activity)))
    assert lines
    assert not any("60123456789" in json.dumps(line.details) + line.subject for line in lines)


async def test_the_log_comes_in_pages_and_ends(client):
    for _ in range(3):
        await create(client)
    first = (await client.get("/api/activity", params={"limit": 2})).json()
    second = (await client.get("/api/activity", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    ids = [line["id"] for line in first["results"] + second["results"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 3
    assert second["next_cursor"] is None


async def test_nobody_sees_somebody_elses_log(api, client, sessions):
    await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    other = await register(api, email="badrul@example.com")
    assert await log_of(other) == []
    assert (await other.get("/api/activity", params={"device_id": str(device)})).status_code == 404


@pytest.mark.parametrize(("name", "value"), [("kind", "campaign.*"), ("device_id", "front"), ("cursor", "x"), ("limit", "0")])
async def test_a_filter_that_is_none_is_refused_by_its_field(client, name, value):
    answer = await client.get("/api/activity", params={name: value})
    assert answer.status_code == 422
    assert [error["field"].rpartition(".")[2] for error in answer.json()["errors"]] == [name]
