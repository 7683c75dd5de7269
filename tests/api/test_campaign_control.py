"""Steering campaigns: every action in every phase, preflight, copies."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from siaran.contracts import device_workflow_id
from siaran.db import SessionMaker
from siaran.models import Lane, LaneState
from tests.api.campaign_rows import (
    TOMORROW,
    add_device,
    add_messages,
    create,
    put_under_way,
    set_campaign,
    show,
    user_id_of,
)
from tests.api.conftest import register
from tests.media_files import upload

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
    image = await upload(client)
    original = await create(client, niche="EXSTART", image_url=image, min_delay_seconds=3, scheduled_time="09:00")
    await put_under_way(sessions, original["id"], "sent")
    answer = await client.post(f"/api/campaigns/{original['id']}/copy")
    assert answer.status_code == 201
    copy = answer.json()["results"]
    assert copy["title"] == "Promo (copy)"
    own = {"id", "title", "status", "status_reason", "created_at", "updated_at", "started_at", "completed_at"}
    assert {key: copy[key] for key in copy if key not in own} == {key: original[key] for key in original if key not in own}
    assert copy["id"] != original["id"]
    assert copy["status"] == "paused"
    moved = await client.post(
        f"/api/campaigns/{copy['id']}/reschedule", json={"campaign_date": TOMORROW, "scheduled_time": "23:59"}
    )
    assert moved.json()["results"]["status"] == "scheduled"
    assert moved.json()["results"]["status_reason"] is None


async def test_a_long_title_is_cut_for_the_mark_of_a_copy(api):
    client = await register(api)
    original = await create(client, title="x" * 200)
    copy = (await client.post(f"/api/campaigns/{original['id']}/copy")).json()["results"]
    assert copy["title"] == "x" * 193 + " (copy)"
    assert (await client.put(f"/api/campaigns/{copy['id']}", json={"title": copy["title"]})).status_code == 200


async def test_a_copy_needs_the_image_that_it_shows(api, sessions):
    client = await register(api)
    original = await create(client, image_url=await upload(client))
    await set_campaign(sessions, original["id"], status="sent")
    assert (await client.delete(original["image_url"])).status_code == 200
    refused = await client.post(f"/api/campaigns/{original['id']}/copy")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "image_url"


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
    assert untitled.json()["results"]["title"] == "Promo (copy)"
    refused = await client.post(f"/api/campaigns/{original['id']}/copy", json={"scheduled_time": "10:00"})
    assert refused.status_code == 422
