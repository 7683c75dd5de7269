"""Steering campaigns: every action in every phase, preflight, copies."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select, update

from siaran.contracts import device_workflow_id
from siaran.db import SessionMaker
from siaran.models import Device, DeviceStatus, Lane, LaneState
from tests.api.campaign_rows import (
    TOMORROW,
    Row,
    add_device,
    add_leads,
    add_messages,
    create,
    put_under_way,
    set_campaign,
    show,
    user_id_of,
)
from tests.api.conftest import register

REFUSED = 409

# What becomes of a campaign in each phase; `paused` has started, `held` was paused before its start.
AFTER = {
    "pause": {"scheduled": "paused", "sending": "paused", "waiting": "paused", "paused": "paused", "held": "paused"},
    "resume": {"scheduled": "scheduled", "sending": "sending", "waiting": "waiting", "paused": "sending", "held": "scheduled"},
    "cancel": dict.fromkeys(["scheduled", "sending", "waiting", "paused", "held", "cancelled"], "cancelled"),
    "start": {"scheduled": "scheduled", "sending": "sending", "waiting": "waiting", "held": "scheduled"},
    "reschedule": {"scheduled": "scheduled", "held": "scheduled"},
}
PHASES = ["scheduled", "sending", "waiting", "paused", "held", "sent", "failed", "cancelled"]


@pytest.mark.parametrize("action", AFTER)
async def test_every_action_in_every_phase(api, sessions, action):
    client = await register(api)
    for phase in PHASES:
        await act(client, sessions, action, phase)


async def act(client: AsyncClient, sessions: SessionMaker, action: str, phase: str) -> None:
    created = await create(client)
    if phase in {"sending", "waiting", "paused", "sent", "failed"}:
        await put_under_way(sessions, created["id"], phase)
    elif phase != "scheduled":
        await set_campaign(sessions, created["id"], status="paused" if phase == "held" else phase)
    before = await show(client, created["id"])
    body = {"campaign_date": TOMORROW, "scheduled_time": "23:58"} if action == "reschedule" else None
    answer = await client.post(f"/api/campaigns/{created['id']}/{action}", json=body)
    after = await show(client, created["id"])
    if (expected := AFTER[action].get(phase)) is not None:
        assert answer.status_code == 200, (phase, answer.text)
        assert answer.json()["results"] == after
        assert after["status"] == expected, phase
    else:
        assert answer.status_code == REFUSED, phase
        assert answer.json()["code"] == "CONFLICT"
        assert after == before


async def test_a_pause_clears_the_reason_to_wait(api, sessions):
    client = await register(api)
    created = await create(client)
    await put_under_way(sessions, created["id"], "waiting")
    await set_campaign(sessions, created["id"], status_reason="no linked device")
    await client.post(f"/api/campaigns/{created['id']}/pause")
    assert (await show(client, created["id"]))["status_reason"] is None


async def test_starting_makes_a_campaign_due_now(api, clock):
    client = await register(api)
    created = await create(client)
    started = (await client.post(f"/api/campaigns/{created['id']}/start")).json()["results"]
    assert abs(datetime.fromisoformat(started["scheduled_at"]) - clock()) < timedelta(seconds=30)


async def test_rescheduling_keeps_the_time_unless_another_is_given(api):
    client = await register(api)
    created = await create(client, scheduled_time="09:00")
    later = (date.fromisoformat(TOMORROW) + timedelta(days=2)).isoformat()
    path = f"/api/campaigns/{created['id']}/reschedule"
    moved = (await client.post(path, json={"campaign_date": later})).json()["results"]
    assert (moved["campaign_date"], moved["scheduled_time"]) == (later, "09:00")
    moved = (await client.post(path, json={"campaign_date": later, "time_schedule": "10:15"})).json()["results"]
    assert moved["scheduled_time"] == "10:15"
    assert datetime.fromisoformat(moved["scheduled_at"]).astimezone(UTC).strftime("%H:%M") == "02:15"


async def test_a_schedule_that_makes_no_sense_is_refused(api):
    client = await register(api)
    created = await create(client)
    wrong = [
        ({}, "campaign_date"),
        ({"campaign_date": "2020-01-01"}, "campaign_date"),
        ({"campaign_date": TOMORROW, "scheduled_time": "9"}, "scheduled_time"),
    ]
    for body, field in wrong:
        answer = await client.post(f"/api/campaigns/{created['id']}/reschedule", json=body)
        assert answer.status_code == 422, body
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert await show(client, created["id"]) == created


async def test_pause_and_cancel_at_the_same_moment_leave_one_clear_state(api, sessions):
    client = await register(api)
    created = await create(client)
    await put_under_way(sessions, created["id"])
    path = f"/api/campaigns/{created['id']}"
    answers = await asyncio.gather(*(client.post(f"{path}/{action}") for action in ("pause", "cancel", "pause", "cancel")))
    assert {answer.status_code for answer in answers} <= {200, REFUSED}
    assert (await show(client, created["id"]))["status"] == "cancelled"


async def test_resuming_wakes_the_lanes_that_have_messages_of_it(api, sessions, temporal_client):
    client = await register(api)
    created = await create(client)
    user_id = await user_id_of(sessions)
    busy, idle = await add_device(sessions, user_id, "busy"), await add_device(sessions, user_id, "idle")
    await add_messages(sessions, created, busy, ["pending"])
    await add_messages(sessions, created, idle, ["sent"])
    await put_under_way(sessions, created["id"], "paused")
    await client.post(f"/api/campaigns/{created['id']}/resume")
    async with sessions() as session:
        lanes = {lane.device_id: lane.state for lane in await session.scalars(select(Lane))}
    assert lanes == {busy: LaneState.RUNNING, idle: LaneState.ASLEEP}
    assert (await temporal_client.get_workflow_handle(device_workflow_id(busy)).describe()).workflow_type == "DeviceWorkflow"


async def test_a_copy_without_a_date_waits_to_be_scheduled(api, sessions):
    client = await register(api)
    original = await create(
        client, niche="EXSTART", image_url="https://a.example/b.jpg", min_delay_seconds=3, scheduled_time="09:00"
    )
    await put_under_way(sessions, original["id"], "sent")
    answer = await client.post(f"/api/campaigns/{original['id']}/copy")
    assert answer.status_code == 201
    copy = answer.json()["results"]
    own = {"id", "status", "status_reason", "created_at", "updated_at", "started_at", "completed_at"}
    assert {key: copy[key] for key in copy if key not in own} == {key: original[key] for key in original if key not in own}
    assert copy["id"] != original["id"]
    assert copy["status"] == "paused"
    moved = await client.post(
        f"/api/campaigns/{copy['id']}/reschedule", json={"campaign_date": TOMORROW, "scheduled_time": "23:59"}
    )
    assert moved.json()["results"]["status"] == "scheduled"
    assert moved.json()["results"]["status_reason"] is None


async def test_a_copy_with_a_date_is_scheduled_for_it(api):
    client = await register(api)
    original = await create(client, scheduled_time="09:00")
    later = (date.fromisoformat(TOMORROW) + timedelta(days=2)).isoformat()
    options = {"campaign_date": later, "title": "Again"}
    copy = (await client.post(f"/api/campaigns/{original['id']}/copy", json=options)).json()["results"]
    assert (copy["status"], copy["campaign_date"], copy["scheduled_time"], copy["title"]) == (
        "scheduled",
        later,
        "09:00",
        "Again",
    )
    untitled = await client.post(f"/api/campaigns/{original['id']}/copy", json={"title": "  "})
    assert untitled.json()["results"]["title"] == original["title"]
    refused = await client.post(f"/api/campaigns/{original['id']}/copy", json={"scheduled_time": "10:00"})
    assert refused.status_code == 422


async def preflight(client: AsyncClient, campaign: Row) -> Row:
    answer = await client.get(f"/api/campaigns/{campaign['id']}/preflight")
    assert answer.status_code == 200, answer.text
    results: Row = answer.json()["results"]
    return results


async def test_preflight_counts_the_audience_by_whole_tags_and_status(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 3, niche="EXSTART,ITADRESS", suppressed=1)
    await add_leads(sessions, user_id, 2, niche="ITADRESS2")
    await add_leads(sessions, user_id, 4, niche="ITADRESS", target_status="customer")
    await register(api, email="badrul@example.com")
    await add_leads(sessions, await user_id_of(sessions, "badrul@example.com"), 5, niche="ITADRESS")

    async def counted(**fields: Any) -> tuple[int, int]:
        found = await preflight(client, await create(client, **fields))
        assert found["recipients"] == found["matched"] - found["suppressed"]
        return found["matched"], found["suppressed"]

    assert await counted(niche="itadress") == (3, 1)
    assert await counted(niche="ITADRESS2,exstart") == (5, 1)
    assert await counted(niche="ITADRES") == (0, 0)
    assert await counted(niche="") == (5, 1)
    assert await counted(niche="ITADRESS", target_status="customer") == (4, 0)


async def test_preflight_spreads_ten_thousand_over_fifteen_devices_in_about_3_7_hours(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 10_000)
    for number in range(15):
        await add_device(sessions, user_id, f"device {number}")
    await add_device(sessions, user_id, "away", status=DeviceStatus.OFFLINE)
    await add_device(sessions, user_id, "banned", status=DeviceStatus.BANNED)
    campaign = await create(client)
    found = await preflight(client, campaign)
    assert (found["devices_total"], found["devices_usable"], found["recipients"], found["waiting"]) == (16, 15, 10_000, 0)
    assert sum(device["messages"] for device in found["devices"]) == 10_000
    assert {device["messages"] for device in found["devices"] if device["can_send"]} == {666, 667}
    assert found["estimate"] == "about 3.7 hours"
    assert found["starts_at"] == campaign["scheduled_at"]
    took = datetime.fromisoformat(found["finishes_at"]) - datetime.fromisoformat(found["starts_at"])
    assert took == timedelta(seconds=found["estimated_seconds"]) == timedelta(seconds=666 * 20)


async def test_preflight_gives_owned_leads_to_their_own_device(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    near, away = (
        await add_device(sessions, user_id, "near"),
        await add_device(sessions, user_id, "away", status=DeviceStatus.OFFLINE),
    )
    await add_leads(sessions, user_id, 3, device_id=near)
    await add_leads(sessions, user_id, 2, device_id=away)
    await add_leads(sessions, user_id, 1)
    found = await preflight(client, await create(client, device_strategy="owner"))
    assert {device["name"]: device["messages"] for device in found["devices"]} == {"near": 4, "away": 2}
    assert found["waiting"] == 2


async def test_preflight_without_a_device_says_so_instead_of_guessing(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 3)
    away = await add_device(sessions, user_id, "away", status=DeviceStatus.OFFLINE)
    found = await preflight(client, await create(client))
    assert (found["waiting"], found["finishes_at"], found["estimated_seconds"]) == (3, None, None)
    assert found["estimate"] == "no device can send at the moment"
    async with sessions.begin() as session:
        await session.execute(update(Device).where(Device.id == away).values(jid=None))
    assert (await preflight(client, await create(client)))["devices"] == []


async def test_a_device_that_is_held_up_is_not_counted_on(api, sessions, clock):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 2)
    later = clock() + timedelta(hours=1)
    for name, statement in {
        "stopped": update(Lane).values(paused_at=clock()),
        "restricted": update(Device).values(restricted_until_at=later),
        "hostless": update(Device).values(host_id=None),
        "deleted": update(Device).values(deleted_at=clock()),
    }.items():
        device = await add_device(sessions, user_id, name)
        campaign = await create(client, device_id=str(device))
        assert (await preflight(client, campaign))["devices_usable"] == 1
        async with sessions.begin() as session:
            await session.execute(statement)
        assert (await preflight(client, campaign))["devices_usable"] == 0, name


async def test_a_campaign_for_one_device_is_estimated_on_that_device(api, sessions):
    client = await register(api)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 4)
    first, _ = await add_device(sessions, user_id, "first"), await add_device(sessions, user_id, "second")
    found = await preflight(client, await create(client, device_id=str(first)))
    assert [(UUID(device["id"]), device["messages"]) for device in found["devices"]] == [(first, 4)]
