"""Contacts of sequences: enrolling by phone, their progress, and steering one of them."""

from datetime import UTC, datetime, timedelta

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, update

from siaran.db import SessionMaker
from siaran.models import Enrollment, Lead, Suppression
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import register
from tests.api.sequence_rows import (
    Row,
    add_contact,
    add_message,
    contacts,
    create,
    enroll,
    read_contact,
    set_contact,
    show,
    status_of,
)


@pytest.fixture
async def client(api: AsyncClient) -> AsyncClient:
    """Somebody who is logged in."""
    return await register(api)


@pytest.fixture
async def sequence(client: AsyncClient) -> Row:
    """An active sequence of the days 1, 2 and 4."""
    return await create(client, status="active")


async def steer(client: AsyncClient, sequence: Row, contact_id: int, action: str, expected: int = 200) -> Row:
    answer = await client.post(f"/api/sequences/{sequence['id']}/contacts/{contact_id}/{action}")
    assert answer.status_code == expected, answer.text
    body: Row = answer.json()
    return body["results"] if expected == 200 else body


async def log_of(client: AsyncClient, sequence: Row, **parameters: int) -> list[str]:
    answer = await client.get(f"/api/sequences/{sequence['id']}/logs", params=parameters)
    assert answer.status_code == 200, answer.text
    return [line["event"] for line in answer.json()["results"]]


async def test_a_person_is_enrolled_once_in_whatever_form_the_phone_is_written(client: AsyncClient, sequence: Row):
    done = await enroll(client, sequence, "+60 12-345 6789", "012-345 6789", "60123456789", "0123456780")
    assert done == {"added": 2, "already_enrolled": 2, "invalid": []}
    assert await enroll(client, sequence, "0060123456789") == {"added": 0, "already_enrolled": 1, "invalid": []}
    rows = await contacts(client, sequence)
    assert sorted(row["contact_phone"] for row in rows) == ["60123456780", "60123456789"]
    assert {row["status"] for row in rows} == {"active"}
    shown = await show(client, sequence["id"])
    assert (shown["contacts_count"], shown["stats"]["active_contacts"]) == (2, 2)
    assert await log_of(client, sequence) == ["enrolled", "enrolled"]


async def test_who_is_no_lead_yet_becomes_one_without_niche(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    lead = {"name": "Siti", "phone": "0123456789", "niche": "EXSTART"}
    known = (await client.post("/api/leads", json=lead)).json()["results"]["id"]
    body = {"contacts": ["+60123456789", {"phone": "012-345 6780", "name": "Devi"}]}
    answer = await client.post(f"/api/sequences/{sequence['id']}/contacts", json=body)
    assert answer.json()["results"]["added"] == 2
    rows = {row["contact_phone"]: row for row in await contacts(client, sequence)}
    assert (rows["60123456789"]["lead_id"], rows["60123456789"]["contact_name"]) == (known, "Siti")
    made = (await client.get(f"/api/leads/{rows['60123456780']['lead_id']}")).json()["results"]
    assert (made["name"], made["niche"], made["target_status"]) == ("Devi", "", "prospect")
    async with sessions() as session:
        assert (await session.scalars(select(Lead.niche).where(Lead.id == known))).one() == "EXSTART"


async def test_phones_that_cannot_be_used_are_named_and_the_others_enrolled(
    client: AsyncClient, sequence: Row, sessions: SessionMaker
):
    async with sessions.begin() as session:
        session.add(Suppression(user_id=await user_id_of(sessions), phone="60123456781", reason="STOP"))
    done = await enroll(client, sequence, "0123456780", "12", "call me", "0123456781")
    assert (done["added"], done["already_enrolled"]) == (1, 0)
    assert [(row["position"], row["contact"]) for row in done["invalid"]] == [(1, "12"), (2, "call me"), (3, "0123456781")]
    assert "opted out" in done["invalid"][2]["reason"]


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "contacts"), ({"contacts": []}, "contacts"), ({"contacts": [{"name": "x"}]}, "contacts.0.phone"),
     ({"contacts": "0123456789"}, "contacts"), ({"contacts": [None]}, "contacts.0")],
)  # fmt: skip
async def test_a_request_that_names_nobody_is_refused(client: AsyncClient, sequence: Row, body: Row, field: str):
    answer = await client.post(f"/api/sequences/{sequence['id']}/contacts", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_somebody_elses_lead_is_another_person(
    client: AsyncClient, api: AsyncClient, sequence: Row, sessions: SessionMaker
):
    stranger = await register(api, email="bala@example.com")
    theirs = (await stranger.post("/api/leads", json={"name": "Chong", "phone": "0123456789"})).json()["results"]
    await enroll(client, sequence, "0123456789")
    row = (await contacts(client, sequence))[0]
    assert row["lead_id"] != theirs["id"]
    assert row["contact_name"] == ""
    mine = await create(stranger, status="active")
    assert (await enroll(stranger, mine, "0123456789"))["added"] == 1
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Lead)) == 2


async def test_a_contact_may_be_in_several_sequences(client: AsyncClient, sequence: Row):
    other = await create(client, name="Hari Raya")
    assert (await enroll(client, sequence, "0123456789"))["added"] == 1
    assert (await enroll(client, other, "0123456789"))["added"] == 1
    ids = {(await contacts(client, where))[0]["lead_id"] for where in (sequence, other)}
    assert len(ids) == 1


async def test_who_was_removed_starts_over_when_enrolled_by_hand(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    await enroll(client, sequence, "0123456789")
    contact = (await contacts(client, sequence))[0]["id"]
    await set_contact(sessions, contact, current_day=2, current_step=2)
    answer = await client.delete(f"/api/sequences/{sequence['id']}/contacts/{contact}")
    assert answer.json()["results"]["status"] == "removed"
    assert await contacts(client, sequence) == []
    assert len(await contacts(client, sequence, status="removed")) == 1
    assert (await show(client, sequence["id"]))["contacts_count"] == 0
    assert (await enroll(client, sequence, "0123456789"))["added"] == 1
    row = await read_contact(sessions, contact)
    assert (row.status.value, row.cycle, row.current_day) == ("active", 1, 0)
    assert await log_of(client, sequence, contact_id=contact) == ["enrolled", "removed", "enrolled"]


async def test_a_lead_with_another_phone_is_the_same_contact(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    await enroll(client, sequence, "0123456789")
    contact = (await contacts(client, sequence))[0]
    async with sessions.begin() as session:
        await session.execute(update(Lead).where(Lead.id == contact["lead_id"]).values(phone="60123456780"))
    assert await enroll(client, sequence, "0123456780") == {"added": 0, "already_enrolled": 1, "invalid": []}
    await client.delete(f"/api/sequences/{sequence['id']}/contacts/{contact['id']}")
    assert (await enroll(client, sequence, "0123456780"))["added"] == 1
    assert [row["contact_phone"] for row in await contacts(client, sequence)] == ["60123456780"]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Enrollment)) == 1


async def test_the_list_tells_the_progress_of_each_contact(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    device = await add_device(sessions, await user_id_of(sessions))
    next_at = datetime(2026, 3, 3, 1, 0, tzinfo=UTC)
    contact = await add_contact(sessions, sequence, current_day=2, current_step=2, next_send_at=next_at)
    earlier = datetime.now(UTC) - timedelta(days=1)
    await add_message(sessions, sequence, contact, device, 1, "delivered", scheduled_at=earlier)
    await add_message(sessions, sequence, contact, device, 2, "failed", error_message="no such number")
    row = (await contacts(client, sequence))[0]
    assert (row["current_step"], row["current_day"], row["progress"]) == (2, 2, "day 2 of 4")
    assert (row["total_steps"], row["total_days"]) == (3, 4)
    assert (row["next_message"], row["next_send_at"][:16]) == ("Tue 09:00", "2026-03-03T01:00")
    assert (row["last_outcome"], row["last_error"]) == ("failed", "no such number")
    assert row["added_at"] == row["enrolled_at"]
    one = await client.get(f"/api/sequences/{sequence['id']}/contacts/{contact}")
    assert one.json()["results"] == row


async def test_contacts_come_in_pages_and_are_filtered(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    ids = [await add_contact(sessions, sequence, contact_name=name) for name in ("Ali", "Siti", "Devi")]
    await set_contact(sessions, ids[1], status="paused")
    first = (await client.get(f"/api/sequences/{sequence['id']}/contacts", params={"limit": 2})).json()
    assert [row["id"] for row in first["results"]] == ids[:2]
    rest = await contacts(client, sequence, cursor=first["next_cursor"])
    assert [row["id"] for row in rest] == ids[2:]
    assert [row["id"] for row in await contacts(client, sequence, status="paused")] == [ids[1]]
    assert [row["id"] for row in await contacts(client, sequence, search="dev")] == [ids[2]]
    phone = (await read_contact(sessions, ids[0])).contact_phone
    assert [row["id"] for row in await contacts(client, sequence, search="+" + phone)] == [ids[0]]
    answer = await client.get(f"/api/sequences/{sequence['id']}/contacts", params={"status": "gone"})
    assert [error["field"] for error in answer.json()["errors"]] == ["status"]


async def test_a_paused_contact_keeps_the_place_and_what_is_queued_is_due_again(
    client: AsyncClient, sequence: Row, sessions: SessionMaker
):
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, sequence, current_day=2, current_step=2, next_send_at=datetime.now(UTC))
    sent = await add_message(sessions, sequence, contact, device, 1, "sent")
    queued = await add_message(sessions, sequence, contact, device, 2, "pending")
    paused = await steer(client, sequence, contact, "pause")
    assert (paused["status"], paused["current_day"], paused["current_step"]) == ("paused", 1, 1)
    assert paused["next_send_at"] is None
    assert paused["paused_at"] is not None
    assert (await status_of(sessions, sent), await status_of(sessions, queued)) == ("sent", "cancelled")
    assert (await steer(client, sequence, contact, "pause"))["status"] == "paused"
    assert (await show(client, sequence["id"]))["stats"]["paused_contacts"] == 1
    resumed = await steer(client, sequence, contact, "resume")
    assert (resumed["status"], resumed["current_day"], resumed["paused_at"]) == ("active", 1, None)
    row = await read_contact(sessions, contact)
    assert row.resumed_at is not None
    assert row.wanted_at is not None
    assert await log_of(client, sequence, contact_id=contact) == ["resumed", "paused"]


async def test_skipping_passes_the_next_step_and_no_further_than_the_last(
    client: AsyncClient, sequence: Row, sessions: SessionMaker
):
    contact = await add_contact(sessions, sequence, current_day=1, current_step=1)
    for day, step in ((2, 2), (4, 3)):
        skipped = await steer(client, sequence, contact, "skip")
        assert (skipped["current_day"], skipped["current_step"]) == (day, step)
    assert "no step left" in (await steer(client, sequence, contact, "skip", 409))["detail"]
    lines = (await client.get(f"/api/sequences/{sequence['id']}/logs")).json()["results"]
    assert [(line["event"], line["detail"], line["contact_id"]) for line in lines] == [
        ("skipped", "day 4", contact),
        ("skipped", "day 2", contact),
    ]
    assert lines[0]["step_id"] == sequence["steps"][2]["id"]


async def test_who_starts_over_begins_with_day_one(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(
        sessions, sequence, current_day=4, current_step=3, shifted_days=2, status="completed", completed_at=datetime.now(UTC)
    )
    sent = await add_message(sessions, sequence, contact, device, 1, "read")
    queued = await add_message(sessions, sequence, contact, device, 4, "pending")
    row = await steer(client, sequence, contact, "restart")
    assert (row["status"], row["current_day"], row["current_step"], row["cycle"]) == ("active", 0, 0, 1)
    assert row["completed_at"] is None
    stored = await read_contact(sessions, contact)
    assert (stored.shifted_days, stored.day_one_on) == (0, None)
    assert (await status_of(sessions, sent), await status_of(sessions, queued)) == ("read", "cancelled")


@pytest.mark.parametrize("status", ["completed", "left", "removed"])
async def test_who_is_out_is_neither_paused_nor_moved_on(
    client: AsyncClient, sequence: Row, sessions: SessionMaker, status: str
):
    contact = await add_contact(sessions, sequence, status=status)
    for action in ("pause", "resume", "skip"):
        assert status in (await steer(client, sequence, contact, action, 409))["detail"]
    assert (await read_contact(sessions, contact)).wanted_at is None


async def test_who_has_opted_out_does_not_start_over(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    contact = await add_contact(sessions, sequence, status="left", left_because="opted out", contact_phone="60123456781")
    async with sessions.begin() as session:
        session.add(Suppression(user_id=await user_id_of(sessions), phone="60123456781", reason="STOP"))
    assert "opted out" in (await steer(client, sequence, contact, "restart", 409))["detail"]
    row = (await contacts(client, sequence))[0]
    assert (row["status"], row["left_because"]) == ("left", "opted out")


async def test_a_removed_contact_gets_nothing_more(client: AsyncClient, sequence: Row, sessions: SessionMaker):
    device = await add_device(sessions, await user_id_of(sessions))
    contact = await add_contact(sessions, sequence, current_day=1, current_step=1)
    queued = await add_message(sessions, sequence, contact, device, 1, "pending")
    path = f"/api/sequences/{sequence['id']}/contacts/{contact}"
    for _ in range(2):
        assert (await client.delete(path)).json()["results"]["status"] == "removed"
    assert await status_of(sessions, queued) == "cancelled"
    assert "enroll them again" in (await steer(client, sequence, contact, "restart", 409))["detail"]
    assert await log_of(client, sequence) == ["removed"]
