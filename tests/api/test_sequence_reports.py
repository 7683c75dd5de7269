"""Sequences in numbers, their messages and log, retries, previews and test sends."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import select

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, MessageStatus, SequenceRetry, SequenceStep
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import register
from tests.api.sequence_rows import Row, add_contact, add_message, create
from tests.waiting import eventually


@pytest.fixture
async def client(api: AsyncClient) -> AsyncClient:
    """Somebody who is logged in."""
    return await register(api)


@pytest.fixture
async def sequence(client: AsyncClient) -> Row:
    """An active sequence of the days 1, 2 and 4."""
    return await create(client, status="active")


@pytest.fixture
async def device(client: AsyncClient, sessions: SessionMaker) -> UUID:
    """A device that is online."""
    return await add_device(sessions, await user_id_of(sessions))


async def results(client: AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


async def open_retries(sessions: SessionMaker) -> list[int]:
    async with sessions() as session:
        query = select(SequenceRetry.message_id).where(SequenceRetry.done_at.is_(None)).order_by(SequenceRetry.message_id)
        return list(await session.scalars(query))


async def test_numbers_are_counted_by_step_and_add_up(client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker):
    for day, states in {1: ("sent", "read", "failed", "unknown", "suppressed"), 2: ("pending", "claimed", "delivered")}.items():
        for state in states:
            contact = await add_contact(sessions, sequence)
            await add_message(sessions, sequence, contact, device, day, state)
    await add_contact(sessions, sequence, status="completed")
    await add_contact(sessions, sequence, status="removed")
    await add_contact(sessions, sequence, workflow_started_at=None)
    numbers = await results(client, f"/api/sequences/{sequence['id']}/stats")
    assert numbers["stats"]["total_contacts"] == 10
    assert (numbers["stats"]["active_contacts"], numbers["stats"]["completed_contacts"]) == (9, 1)
    assert (numbers["stats"]["messages_sent"], numbers["stats"]["success_rate"]) == (3, 60.0)
    assert numbers["starting_contacts"] == 1
    first, second, last = numbers["steps"]
    assert [step["day"] for step in numbers["steps"]] == [1, 2, 4]
    assert (first["messages"]["success"], first["messages"]["failed"], first["messages"]["unknown"]) == (2, 1, 1)
    assert (first["messages"]["suppressed"], first["success_rate"]) == (1, 50.0)
    assert (second["messages"]["pending"], second["messages"]["delivered"]) == (2, 1)
    assert last["messages"]["total"] == 0
    for name in ("total", "pending", "success", "failed", "unknown", "suppressed"):
        assert numbers["messages"][name] == sum(step["messages"][name] for step in numbers["steps"])


async def test_a_step_that_was_taken_out_stays_in_the_numbers(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker
):
    contact = await add_contact(sessions, sequence)
    await add_message(sessions, sequence, contact, device, 2, "sent")
    await client.put(f"/api/sequences/{sequence['id']}", json={"steps": [{"day": 1}]})
    steps = (await results(client, f"/api/sequences/{sequence['id']}/stats"))["steps"]
    assert [(step["day"], step["is_deleted"], step["messages"]["sent"]) for step in steps] == [(1, False, 0), (2, True, 1)]


async def test_the_summary_adds_all_sequences_up(client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker):
    other = await create(client, name="Hari Raya")
    gone = await create(client, name="Gone")
    await client.delete(f"/api/sequences/{gone['id']}")
    for status in ("active", "paused", "left", "removed"):
        await add_contact(sessions, sequence, status=status)
    contact = await add_contact(sessions, other)
    await add_message(sessions, other, contact, device, 1, "sent")
    await add_message(sessions, other, contact, device, 2, "failed")
    summary = await results(client, "/api/sequences/summary")
    assert summary["sequences"] == {"total": 2, "active": 1, "paused": 0, "draft": 1}
    assert summary["contacts"] == {
        "total": 4,
        "active": 2,
        "paused": 1,
        "completed": 0,
        "left": 1,
        "average_per_sequence": 2.0,
    }
    assert (summary["messages"]["total_messages"], summary["messages"]["success_rate"]) == (2, 50.0)
    assert [row["name"] for row in summary["recent_sequences"]] == ["Hari Raya", "Promo Merdeka"]
    assert (await results(client, "/api/sequences/summary", status="draft"))["sequences"]["total"] == 1
    stranger = await register(client, email="bala@example.com")
    empty = await results(stranger, "/api/sequences/summary")
    assert (empty["sequences"]["total"], empty["contacts"]["average_per_sequence"]) == (0, 0)
    assert empty["recent_sequences"] == []


async def test_messages_are_listed_by_what_became_of_them(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker
):
    path = f"/api/sequences/{sequence['id']}/messages"
    contact = await add_contact(sessions, sequence)
    ids = [
        await add_message(sessions, sequence, contact, device, 1, "sent"),
        await add_message(sessions, sequence, contact, device, 2, "failed", error_message="no such number"),
        await add_message(sessions, sequence, contact, device, 4, "pending"),
    ]
    assert [row["message_id"] for row in await results(client, path)] == ids
    failed = (await results(client, path, status="failed"))[0]
    assert (failed["message_id"], failed["contact_id"], failed["error_message"]) == (ids[1], contact, "no such number")
    assert failed["is_retryable"] is True
    assert [row["message_id"] for row in await results(client, path, day=4)] == [ids[2]]
    first = (await client.get(path, params={"limit": 2})).json()
    assert [row["message_id"] for row in first["results"]] == ids[:2]
    assert [row["message_id"] for row in await results(client, path, cursor=first["next_cursor"])] == ids[2:]
    assert (await client.get(path, params={"day": 3})).status_code == 404
    answer = await client.get(path, params={"status": "lost"})
    assert [error["field"] for error in answer.json()["errors"]] == ["status"]


async def retry(client: AsyncClient, path: str, **body: Any) -> int:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    retried: int = answer.json()["results"]["retried"]
    return retried


async def test_a_retry_asks_for_what_failed_and_can_be_retried_once(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker
):
    contact, other = await add_contact(sessions, sequence), await add_contact(sessions, sequence)
    left = await add_contact(sessions, sequence, status="left")
    mine = await add_message(sessions, sequence, contact, device, 1, "failed")
    theirs = await add_message(sessions, sequence, other, device, 1, "failed")
    await add_message(sessions, sequence, other, device, 2, "failed", is_retryable=False)
    await add_message(sessions, sequence, other, device, 4, "unknown")
    await add_message(sessions, sequence, left, device, 1, "failed")
    path = f"/api/sequences/{sequence['id']}"
    assert await retry(client, f"{path}/contacts/{contact}/retry-failed") == 1
    assert await open_retries(sessions) == [mine]
    assert await retry(client, f"{path}/retry-failed") == 1
    assert await open_retries(sessions) == [mine, theirs]
    assert await retry(client, f"{path}/retry-failed") == 0
    lines = await results(client, f"{path}/logs")
    assert [(line["event"], line["contact_id"]) for line in lines] == [("retried", other), ("retried", contact)]


async def test_one_message_is_retried_an_unknown_one_only_with_a_confirmation(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker
):
    contact = await add_contact(sessions, sequence)
    unknown = await add_message(sessions, sequence, contact, device, 1, "unknown")
    path = f"/api/sequences/{sequence['id']}/messages/{unknown}/retry"
    answer = await client.post(path)
    assert answer.status_code == 409
    assert "may get it twice" in answer.json()["detail"]
    assert await retry(client, path, confirm=True) == 1
    assert await retry(client, path, confirm=True) == 0
    assert await open_retries(sessions) == [unknown]


@pytest.mark.parametrize(
    ("status", "columns", "reason"),
    [
        ("sent", {}, "was sent"),
        ("suppressed", {}, "opted out"),
        ("cancelled", {}, "was cancelled"),
        ("failed", {"is_retryable": False, "error_message": "no such number"}, "no such number"),
    ],
)
async def test_what_cannot_be_sent_again_is_refused_with_the_reason(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker, status: str, columns: Row, reason: str
):
    contact = await add_contact(sessions, sequence)
    message = await add_message(sessions, sequence, contact, device, 1, status, **columns)
    answer = await client.post(f"/api/sequences/{sequence['id']}/messages/{message}/retry", json={"confirm": True})
    assert answer.status_code == 409
    assert reason in answer.json()["detail"]
    assert await open_retries(sessions) == []


async def test_nothing_is_sent_again_to_who_left_or_of_a_step_that_is_gone(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker
):
    left, contact = await add_contact(sessions, sequence, status="left"), await add_contact(sessions, sequence)
    first = await add_message(sessions, sequence, left, device, 1, "failed")
    second = await add_message(sessions, sequence, contact, device, 1, "failed")
    async with sessions.begin() as session:
        step = (await session.scalars(select(SequenceStep).where(SequenceStep.id == UUID(sequence["steps"][0]["id"])))).one()
        step.deleted_at = datetime.now(UTC)
    for message, reason in ((first, "has left"), (second, "taken out")):
        answer = await client.post(f"/api/sequences/{sequence['id']}/messages/{message}/retry")
        assert answer.status_code == 409
        assert reason in answer.json()["detail"]
    assert await retry(client, f"/api/sequences/{sequence['id']}/retry-failed") == 0


async def test_a_step_is_shown_as_a_recipient_sees_it(client: AsyncClient, sequence: Row):
    lead = (await client.post("/api/leads", json={"name": "Siti", "phone": "0123456789"})).json()["results"]["id"]
    path = f"/api/sequences/{sequence['id']}/steps"
    shown = await results(client, f"{path}/1/preview")
    assert (shown["message_type"], shown["recipients"][0]["text"]) == ("text", "Selamat datang Siti")
    shown = await results(client, f"{path}/1/preview", lead_id=lead)
    assert shown["recipients"][0]["lead_id"] == lead
    assert (await client.get(f"{path}/3/preview")).status_code == 404
    answer = await client.get(f"{path}/0/preview")
    assert [error["field"] for error in answer.json()["errors"]] == ["day"]
    stranger = await register(client, email="bala@example.com")
    theirs = (await stranger.post("/api/leads", json={"name": "Chong", "phone": "0123456789"})).json()["results"]["id"]
    assert (await client.get(f"{path}/1/preview", params={"lead_id": theirs})).status_code == 404


async def test_a_test_of_a_step_goes_to_one_number_and_enrolls_nobody(
    client: AsyncClient, sequence: Row, device: UUID, sessions: SessionMaker
):
    path = f"/api/sequences/{sequence['id']}/steps/1/test"
    sending = asyncio.create_task(client.post(path, json={"phone": "012-345 6789", "wait_seconds": 10}))
    await eventually(lambda: _send_all(sessions))
    answer = await sending
    assert answer.status_code == 200, answer.text
    sent = answer.json()["results"]
    assert (sent["phone"], sent["status"], sent["text"]) == ("60123456789", "sent", "Selamat datang Aisyah")
    queued = await client.post(path, json={"phone": "0123456789", "wait_seconds": 0})
    assert queued.status_code == 202
    assert await results(client, f"/api/sequences/{sequence['id']}/contacts") == []
    answer = await client.post(path, json={"phone": "12"})
    assert [error["field"] for error in answer.json()["errors"]] == ["phone"]


async def _send_all(sessions: SessionMaker) -> bool:
    async with sessions.begin() as session:
        messages = (await session.scalars(select(BroadcastMessage))).all()
        for message in messages:
            message.status = MessageStatus.SENT
    return bool(messages)
