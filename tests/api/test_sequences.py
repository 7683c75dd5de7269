"""Sequences: creating, editing, copying, deleting them, and their steps."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient

from siaran.db import SessionMaker
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import register
from tests.api.sequence_rows import (
    STEPS,
    Row,
    add_contact,
    add_message,
    create,
    read_contact,
    set_contact,
    show,
    status_of,
    steps_in,
)
from tests.media_files import png


@pytest.fixture
async def client(api: AsyncClient) -> AsyncClient:
    """Somebody who is logged in."""
    return await register(api)


def refused(answer: Any) -> list[str]:
    """The fields that an answer refuses."""
    assert answer.status_code == 422, answer.text
    return [error["field"] for error in answer.json()["errors"]]


async def test_a_sequence_is_created_as_a_draft_with_its_steps(client: AsyncClient):
    made = await create(client, niche="EXSTART", target_status="prospect", time_schedule="10:00", description="Five days")
    assert (made["status"], made["is_active"], made["target_status"]) == ("draft", False, "prospect")
    assert (made["total_days"], made["total_steps"], made["step_count"]) == (4, 3, 3)
    assert (made["min_delay_seconds"], made["max_delay_seconds"], made["time_schedule"]) == (10, 30, "10:00")
    first, _, last = made["steps"]
    assert (first["day"], first["day_number"], first["send_time"], first["message_type"]) == (1, 1, "09:00", "text")
    assert (last["day"], last["send_time"], last["min_delay_seconds"]) == (4, None, 5)
    assert made["contacts_count"] == 0
    assert made["stats"] == {
        "total_contacts": 0,
        "active_contacts": 0,
        "completed_contacts": 0,
        "paused_contacts": 0,
        "left_contacts": 0,
        "messages_sent": 0,
        "success_rate": 0,
    }
    assert await show(client, made["id"]) == made


async def test_the_names_of_the_original_are_understood(client: AsyncClient):
    media = await upload(client)
    steps = [{"day_number": 2, "content": "Hi", "media_url": media, "send_time": "", "min_delay_seconds": ""}]
    made = await create(client, steps=steps, is_active=True, status="", target_status="ALL")
    assert (made["status"], made["target_status"]) == ("active", "all")
    step = made["steps"][0]
    assert (step["day"], step["image_url"], step["media_url"], step["message_type"]) == (2, media, media, "image")
    assert (step["send_time"], step["min_delay_seconds"]) == (None, None)


async def upload(client: AsyncClient) -> str:
    answer = await client.post("/api/media", files={"file": ("promo.png", png(), "image/png")})
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["results"]["url"]
    return url


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": " "}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"target_status": "everyone"}, ["target_status"]),
        ({"status": "running"}, ["status"]),
        ({"time_schedule": "9am"}, ["time_schedule"]),
        ({"min_delay_seconds": 40, "max_delay_seconds": 20}, ["min_delay_seconds"]),
        ({"max_delay_seconds": -1}, ["max_delay_seconds"]),
        ({"device_id": "00000000-0000-4000-8000-000000000000"}, ["device_id"]),
        ({"status": "active", "steps": []}, ["steps"]),
        ({"name": "a\0b"}, ["name"]),
        ({"niche": "x" * 101}, ["niche"]),
    ],
)
async def test_a_bad_field_is_named(client: AsyncClient, fields: Row, expected: list[str]):
    answer = await client.post("/api/sequences", json={"name": "Promo", "steps": STEPS, **fields})
    assert refused(answer) == expected
    assert (await client.get("/api/sequences")).json()["results"] == []


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"content": "no day"}, "day"),
        ({"day": 0, "content": "x"}, "day"),
        ({"day": 3661, "content": "x"}, "day"),
        ({"day": 1, "content": "twice"}, "day"),
        ({"day": 3, "day_number": 5, "content": "x"}, "day_number"),
        ({"day": 3, "content": "x", "send_time": "25:00"}, "send_time"),
        ({"day": 3, "content": "x", "send_time": 900}, "send_time"),
        ({"day": 3, "content": ""}, "content"),
        ({"day": 3, "content": "{{nam}}"}, "content"),
        ({"day": 3, "caption": "{{nam}}"}, "caption"),
        ({"day": 3, "content": "x", "min_delay_seconds": 9, "max_delay_seconds": 8}, "min_delay_seconds"),
        ({"day": 3, "content": "x", "min_delay_seconds": 31}, "min_delay_seconds"),
        ({"day": 3, "content": "x", "max_delay_seconds": 9}, "max_delay_seconds"),
        ({"day": 3, "content": "x", "max_delay_seconds": -9}, "max_delay_seconds"),
        ({"day": 3, "content": "x", "message_type": "image"}, "message_type"),
        ({"day": 3, "content": "x", "message_type": "song"}, "message_type"),
        ({"day": 3, "image_url": "/api/media/00000000-0000-4000-8000-000000000000"}, "image_url"),
        ({"day": 3, "image_url": "ftp://example.com/a.png"}, "image_url"),
        ({"day": 3, "image_url": "http://127.0.0.1:1/a.png"}, "image_url"),
        ({"day": 3, "image_url": "https://example.com/a.png", "media_url": "https://example.com/b.png"}, "media_url"),
    ],
)
async def test_a_bad_field_of_a_step_is_named_with_its_place(client: AsyncClient, step: Row, field: str):
    steps = [{"day": 1, "content": "one"}, {"day": 2, "content": "two"}, step]
    answer = await client.post("/api/sequences", json={"name": "Promo", "steps": steps})
    assert refused(answer) == [f"steps.2.{field}"]


async def test_all_that_is_wrong_is_said_at_once(client: AsyncClient):
    body = {"name": "", "min_delay_seconds": 9, "max_delay_seconds": 1, "steps": [{"day": 1}, {"day": 1, "content": "{{x}}"}]}
    fields = refused(await client.post("/api/sequences", json=body))
    assert fields == ["name", "min_delay_seconds", "steps.1.day", "steps.0.content", "steps.1.content"]


async def test_editing_one_field_leaves_all_others(client: AsyncClient):
    made = await create(client, niche="EXSTART", time_schedule="10:00", leave_on_reply=True)
    answer = await client.put(f"/api/sequences/{made['id']}", json={"name": "Another"})
    assert answer.status_code == 200, answer.text
    assert {**answer.json()["results"], "updated_at": made["updated_at"]} == {**made, "name": "Another"}


async def test_sending_back_what_was_read_changes_nothing(client: AsyncClient, sessions: SessionMaker):
    media = await upload(client)
    made = await create(client, steps=[*STEPS, {"day": 7, "image_url": media, "caption": "Tahniah"}])
    answer = await client.put(f"/api/sequences/{made['id']}", json=made)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == made


async def test_steps_that_stay_keep_their_ids_and_what_is_not_named(client: AsyncClient, sessions: SessionMaker):
    made = await create(client)
    one, two, four = made["steps"]
    steps = [{"day": 5, "content": "new"}, {"day": 4, "content": "changed"}, {"day_number": 1}]
    edited = (await client.put(f"/api/sequences/{made['id']}", json={"steps": steps})).json()["results"]
    assert [(step["day"], step["content"]) for step in edited["steps"]] == [
        (1, one["content"]),
        (4, "changed"),
        (5, "new"),
    ]
    assert [edited["steps"][0]["id"], edited["steps"][1]["id"]] == [one["id"], four["id"]]
    assert (edited["steps"][0]["send_time"], edited["steps"][1]["min_delay_seconds"]) == ("09:00", 5)
    rows = await steps_in(sessions, made)
    assert [(row.day, row.deleted_at is None) for row in rows] == [(1, True), (2, False), (4, True), (5, True)]
    steps = [{"day": 2, "content": "back"}]
    edited = (await client.put(f"/api/sequences/{made['id']}", json={"steps": steps})).json()["results"]
    assert [(step["day"], step["id"], step["content"]) for step in edited["steps"]] == [(2, two["id"], "back")]


async def test_an_empty_text_clears_what_a_step_had_of_its_own(client: AsyncClient):
    made = await create(client)
    steps = [
        {"day": 1, "send_time": ""},
        {"day": 2},
        {"day": 4, "min_delay_seconds": "", "max_delay_seconds": ""},
    ]
    edited = (await client.put(f"/api/sequences/{made['id']}", json={"steps": steps, "time_schedule": ""})).json()["results"]
    assert edited["steps"][0]["send_time"] is None
    assert (edited["steps"][2]["min_delay_seconds"], edited["steps"][2]["max_delay_seconds"]) == (None, None)


async def test_a_refused_edit_changes_nothing(client: AsyncClient, sessions: SessionMaker):
    made = await create(client)
    body = {"name": "Another", "steps": [{"day": 1, "content": "changed"}, {"day": 9, "content": "{{nope}}"}]}
    assert refused(await client.put(f"/api/sequences/{made['id']}", json=body)) == ["steps.1.content"]
    assert await show(client, made["id"]) == made
    assert refused(await client.put(f"/api/sequences/{made['id']}", json={"max_delay_seconds": 4})) == ["min_delay_seconds"]
    assert refused(await client.put(f"/api/sequences/{made['id']}", json={"status": "active", "steps": []})) == ["steps"]


async def test_what_is_queued_of_a_step_that_is_taken_out_is_not_sent(client: AsyncClient, sessions: SessionMaker):
    made = await create(client, status="active")
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, made, current_day=2, current_step=2)
    other = await add_contact(sessions, made, current_day=1, current_step=1)
    queued = await add_message(sessions, made, contact, device, 2, "pending")
    kept = await add_message(sessions, made, other, device, 1, "pending")
    answer = await client.put(f"/api/sequences/{made['id']}", json={"steps": [{"day": 1}, {"day": 4}]})
    assert answer.status_code == 200, answer.text
    assert (await status_of(sessions, queued), await status_of(sessions, kept)) == ("cancelled", "pending")


async def test_other_times_reach_those_who_are_under_way(client: AsyncClient, sessions: SessionMaker):
    made = await create(client, status="active")
    contact = await add_contact(sessions, made)
    await client.put(f"/api/sequences/{made['id']}", json={"steps": [*STEPS[:2], {"day": 4, "content": "Other words"}]})
    assert (await read_contact(sessions, contact)).wanted_at is None
    await client.put(f"/api/sequences/{made['id']}", json={"time_schedule": "11:00"})
    assert (await read_contact(sessions, contact)).wanted_at is not None
    await set_contact(sessions, contact, wanted_at=None)
    await client.put(f"/api/sequences/{made['id']}", json={"steps": [*STEPS, {"day": 9, "content": "One more"}]})
    assert (await read_contact(sessions, contact)).wanted_at is not None


async def test_a_sequence_starts_pauses_and_goes_on(client: AsyncClient, sessions: SessionMaker):
    made = await create(client)
    path = f"/api/sequences/{made['id']}"
    assert (await client.post(f"{path}/pause")).status_code == 409
    assert (await client.post(f"{path}/start")).json()["results"]["status"] == "active"
    contact = await add_contact(sessions, made)
    assert (await client.post(f"{path}/pause")).json()["results"]["is_active"] is False
    assert (await client.post(f"{path}/pause")).json()["results"]["status"] == "paused"
    assert (await client.post(f"{path}/resume")).json()["results"]["status"] == "active"
    assert (await read_contact(sessions, contact)).wanted_at is not None
    kinds = [line["kind"] for line in (await client.get("/api/activity", params={"kind": "sequence"})).json()["results"]]
    assert kinds == ["sequence.resumed", "sequence.paused", "sequence.started", "sequence.created"]


async def test_status_and_is_active_follow_the_one_that_changes(client: AsyncClient):
    made = await create(client)
    path = f"/api/sequences/{made['id']}"
    for body, expected in (
        ({"status": "active", "is_active": False}, "active"),
        ({"status": "active", "is_active": False}, "paused"),
        ({"status": "paused", "is_active": True}, "active"),
        ({"is_active": True}, "active"),
        ({"is_active": False}, "paused"),
        ({"status": "draft"}, "draft"),
        ({"is_active": False}, "draft"),
    ):
        assert (await client.put(path, json=body)).json()["results"]["status"] == expected, body


async def test_a_sequence_without_steps_cannot_start(client: AsyncClient):
    made = await create(client, steps=[])
    answer = await client.post(f"/api/sequences/{made['id']}/start")
    assert answer.status_code == 409
    assert "no steps" in answer.json()["detail"]


async def test_a_deleted_sequence_is_gone_and_its_log_stays(client: AsyncClient, sessions: SessionMaker):
    made = await create(client, status="active")
    path = f"/api/sequences/{made['id']}"
    assert (await client.delete(path)).json()["results"] == {"id": made["id"]}
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert (await client.post(f"{path}/start")).status_code == 404
    assert (await client.get("/api/sequences")).json()["results"] == []
    assert (await client.get(f"{path}/logs")).status_code == 200
    names = [line["name"] for line in (await client.get("/api/activity", params={"kind": "sequence"})).json()["results"]]
    assert set(names) == {"Promo Merdeka"}


async def test_a_copy_has_the_steps_and_no_contacts(client: AsyncClient, sessions: SessionMaker):
    made = await create(client, status="active", niche="EXSTART")
    await add_contact(sessions, made)
    answer = await client.post(f"/api/sequences/{made['id']}/copy")
    assert answer.status_code == 201, answer.text
    copy = answer.json()["results"]
    assert (copy["name"], copy["status"], copy["niche"]) == ("Promo Merdeka (copy)", "draft", "EXSTART")
    assert copy["contacts_count"] == 0
    assert [{**step, "id": ""} for step in copy["steps"]] == [{**step, "id": ""} for step in made["steps"]]
    assert not {step["id"] for step in copy["steps"]} & {step["id"] for step in made["steps"]}
    named = await client.post(f"/api/sequences/{made['id']}/copy", json={"name": "Hari Raya"})
    assert named.json()["results"]["name"] == "Hari Raya"


async def test_lists_come_in_pages_and_are_filtered(client: AsyncClient):
    for number in range(3):
        await create(client, name=f"Promo {number}", niche="RAYA" if number == 1 else "")
        await asyncio.sleep(0.01)
    first = (await client.get("/api/sequences", params={"limit": 2})).json()
    assert [row["name"] for row in first["results"]] == ["Promo 2", "Promo 1"]
    assert first["totals"] == {"total": 3, "active": 0, "paused": 0, "draft": 3}
    rest = (await client.get("/api/sequences", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [row["name"] for row in rest["results"]] == ["Promo 0"]
    assert rest["next_cursor"] is None
    found = (await client.get("/api/sequences", params={"search": "raya"})).json()
    assert [row["name"] for row in found["results"]] == ["Promo 1"]
    assert (await client.get("/api/sequences", params={"status": "active"})).json()["results"] == []
    assert refused(await client.get("/api/sequences", params={"cursor": "nonsense"})) == ["cursor"]


async def test_a_step_restricted_device_belongs_to_its_owner(client: AsyncClient, api: AsyncClient, sessions: SessionMaker):
    device = str(await add_device(sessions, await user_id_of(sessions)))
    made = await create(client, device_id=device)
    assert made["device_id"] == device
    assert (await client.put(f"/api/sequences/{made['id']}", json={"device_id": ""})).json()["results"]["device_id"] is None
    stranger = await register(api, email="bala@example.com")
    answer = await stranger.post("/api/sequences", json={"name": "Mine", "steps": STEPS, "device_id": device})
    assert refused(answer) == ["device_id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/start"),
        ("POST", "/resume"),
        ("POST", "/pause"),
        ("POST", "/copy"),
        ("GET", "/contacts"),
        ("POST", "/contacts"),
        ("GET", "/contacts/{contact}"),
        ("DELETE", "/contacts/{contact}"),
        ("POST", "/contacts/{contact}/pause"),
        ("POST", "/contacts/{contact}/resume"),
        ("POST", "/contacts/{contact}/skip"),
        ("POST", "/contacts/{contact}/restart"),
        ("POST", "/contacts/{contact}/retry-failed"),
        ("GET", "/stats"),
        ("GET", "/logs"),
        ("GET", "/messages"),
        ("POST", "/retry-failed"),
        ("POST", "/messages/{message}/retry"),
        ("GET", "/steps/1/preview"),
        ("POST", "/steps/1/test"),
    ],
)
async def test_another_users_sequence_does_not_exist(
    client: AsyncClient, api: AsyncClient, sessions: SessionMaker, method: str, path: str
):
    made = await create(client)
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, made)
    message = await add_message(sessions, made, contact, device, 1, "failed")
    stranger = await register(api, email="bala@example.com")
    bodies: dict[str, Row] = {"/contacts": {"contacts": ["0123456789"]}, "/steps/1/test": {"phone": "0123456789"}}
    where = f"/api/sequences/{made['id']}{path.format(contact=contact, message=message)}"
    body = {"name": "Mine"} if method == "PUT" else bodies.get(path)
    answer = await stranger.request(method, where, json=body)
    assert answer.status_code == 404, answer.text
    assert answer.json()["code"] == "NOT_FOUND"
    mine = await create(stranger)
    if "{contact}" in path or "{message}" in path:
        where = f"/api/sequences/{mine['id']}{path.format(contact=contact, message=message)}"
        assert (await stranger.request(method, where, json=body)).status_code == 404
    assert await show(client, made["id"]) == {
        **made,
        "contacts_count": 1,
        "stats": {**made["stats"], "total_contacts": 1, "active_contacts": 1},
    }
    assert (await read_contact(sessions, contact)).wanted_at is None
