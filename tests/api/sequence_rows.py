"""Sequences as tests make them, and rows that the engine would write: contacts under way, messages of steps."""

from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import insert, select, update

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, Enrollment, MessageStatus, SequenceStep, sequence_source

Row = dict[str, Any]
"""An object of an answer."""

STEPS = [
    {"day": 1, "content": "Selamat datang {{name|kawan}}", "send_time": "09:00"},
    {"day": 2, "content": "Hari kedua"},
    {"day": 4, "content": "Hari keempat", "min_delay_seconds": 5, "max_delay_seconds": 6},
]

_phones = count(60131000000)
_leads = count(1_000_000)


async def create(client: AsyncClient, **fields: Any) -> Row:
    """A draft of three steps, created through the API."""
    answer = await client.post("/api/sequences", json={"name": "Promo Merdeka", "steps": STEPS, **fields})
    assert answer.status_code == 201, answer.text
    created: Row = answer.json()["results"]
    return created


async def show(client: AsyncClient, sequence_id: str) -> Row:
    """A sequence as its owner sees it."""
    answer = await client.get(f"/api/sequences/{sequence_id}")
    assert answer.status_code == 200, answer.text
    shown: Row = answer.json()["results"]
    return shown


async def enroll(client: AsyncClient, sequence: Row, *phones: str) -> Row:
    """Contacts enrolled by phone; returns what the answer says."""
    answer = await client.post(f"/api/sequences/{sequence['id']}/contacts", json={"contacts": list(phones)})
    assert answer.status_code == 201, answer.text
    done: Row = answer.json()["results"]
    return done


async def contacts(client: AsyncClient, sequence: Row, **parameters: Any) -> list[Row]:
    """The contacts of a sequence as its owner sees them."""
    answer = await client.get(f"/api/sequences/{sequence['id']}/contacts", params=parameters)
    assert answer.status_code == 200, answer.text
    rows: list[Row] = answer.json()["results"]
    return rows


async def add_contact(sessions: SessionMaker, sequence: Row, **columns: Any) -> int:
    """A contact under way whose workflow has been started."""
    row = {
        "user_id": sequence["user_id"],
        "sequence_id": sequence["id"],
        "lead_id": next(_leads),
        "contact_phone": str(next(_phones)),
        "contact_name": "Siti",
        "workflow_started_at": datetime.now(UTC),
        **columns,
    }
    async with sessions.begin() as session:
        contact_id: int = (await session.execute(insert(Enrollment).values(row).returning(Enrollment.id))).scalar_one()
    return contact_id


async def read_contact(sessions: SessionMaker, contact_id: int) -> Enrollment:
    """A contact's row."""
    async with sessions() as session:
        return (await session.scalars(select(Enrollment).where(Enrollment.id == contact_id))).one()


async def set_contact(sessions: SessionMaker, contact_id: int, **columns: Any) -> None:
    """What the engine would write into a contact's row."""
    async with sessions.begin() as session:
        await session.execute(update(Enrollment).where(Enrollment.id == contact_id).values(columns))


async def steps_in(sessions: SessionMaker, sequence: Row) -> list[SequenceStep]:
    """All rows of steps of a sequence by day, those that were taken out included."""
    async with sessions() as session:
        query = select(SequenceStep).where(SequenceStep.sequence_id == UUID(sequence["id"])).order_by(SequenceStep.day)
        return list(await session.scalars(query))


async def add_message(
    sessions: SessionMaker, sequence: Row, contact_id: int, device_id: UUID, day: int, status: str, **columns: Any
) -> int:
    """A message of a step in some state; returns its id."""
    now = datetime.now(UTC)
    step = next(step for step in sequence["steps"] if step["day"] == day)
    state = MessageStatus(status)
    async with sessions.begin() as session:
        contact = (await session.scalars(select(Enrollment).where(Enrollment.id == contact_id))).one()
        row = {
            "user_id": sequence["user_id"],
            "device_id": device_id,
            "sequence_id": sequence["id"],
            "enrollment_id": contact_id,
            "step_id": step["id"],
            "cycle": contact.cycle,
            "source": sequence_source(UUID(sequence["id"])),
            "recipient_phone": contact.contact_phone,
            "status": state,
            "is_retryable": state is MessageStatus.FAILED,
            "error_code": "rate_limited" if state is MessageStatus.FAILED else None,
            "attempt": 0 if state is MessageStatus.PENDING else 1,
            "scheduled_at": now,
            "claimed_at": None if state is MessageStatus.PENDING else now,
            "sent_at": now if state in {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ} else None,
            **columns,
        }
        statement = insert(BroadcastMessage).values(row).returning(BroadcastMessage.id)
        message_id: int = (await session.execute(statement)).scalar_one()
    return message_id


async def status_of(sessions: SessionMaker, message_id: int) -> MessageStatus:
    """The state of a message."""
    async with sessions() as session:
        return (await session.scalars(select(BroadcastMessage.status).where(BroadcastMessage.id == message_id))).one()
