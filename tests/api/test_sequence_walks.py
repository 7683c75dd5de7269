"""What the endpoints write is what the engine reads: contacts are steered between two looks of their workflows."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, update

from siaran.contracts import StepAction, StepOrder, StepPlan
from siaran.db import SessionMaker
from siaran.enrollment_steps import move_contacts
from siaran.models import BroadcastMessage, Sequence
from tests.api.campaign_rows import add_device, user_id_of
from tests.api.conftest import MovableClock, another_client, register
from tests.api.sequence_rows import Row, contacts, create, enroll, read_contact, set_contact

NINE = datetime(2027, 3, 2, 1, 0, tzinfo=UTC)
"""09:00 in Kuala Lumpur, on a Tuesday."""

DAY = timedelta(days=1)
STEPS = [{"day": day, "content": f"Hari {day}"} for day in (1, 2, 4)]


@pytest.fixture
async def client(api: AsyncClient, clock: MovableClock) -> AsyncClient:
    """A script, an hour before `NINE`; a log-in would not last for the days of a walk."""
    set_clock(clock, NINE - timedelta(hours=1))
    made = await (await register(api)).post("/api/api-keys", json={"name": "script", "scopes": ["read", "write"]})
    return another_client(api, x_auth_token=made.json()["results"]["key"])


@pytest.fixture
async def device(client: AsyncClient, sessions: SessionMaker) -> UUID:
    """A device that is online."""
    return await add_device(sessions, await user_id_of(sessions))


@pytest.fixture
async def sequence(client: AsyncClient, device: UUID, sessions: SessionMaker) -> Row:
    """An active sequence of the days 1, 2 and 4, at nine, with one contact, whose workflow has been started."""
    made = await create(client, steps=STEPS, time_schedule="09:00", status="active")
    await enroll(client, made, "0123456789")
    await set_contact(sessions, (await contacts(client, made))[0]["id"], workflow_started_at=NINE)
    return made


def set_clock(clock: MovableClock, at: datetime) -> None:
    clock.ahead += at - clock()


async def look(sessions: SessionMaker, client: AsyncClient, sequence: Row, now: datetime) -> StepPlan:
    """What the contact's workflow does when it looks at the row at that instant."""
    contact = (await contacts(client, sequence))[0]
    async with sessions.begin() as session:
        moved = await move_contacts(session, [StepOrder(contact["id"], UUID(sequence["user_id"]), now)])
    return moved.plans[contact["id"]]


async def queued(sessions: SessionMaker) -> list[tuple[str, int]]:
    """State and cycle of every message, oldest first."""
    async with sessions() as session:
        rows = await session.execute(select(BroadcastMessage.status, BroadcastMessage.cycle).order_by(BroadcastMessage.id))
        return [(row.status.value, row.cycle) for row in rows]


async def send_all(sessions: SessionMaker, at: datetime) -> None:
    async with sessions.begin() as session:
        await session.execute(
            update(BroadcastMessage)
            .where(BroadcastMessage.status == "pending")
            .values(status="sent", claimed_at=at, sent_at=at)
        )


async def act(client: AsyncClient, sequence: Row, action: str) -> None:
    contact = (await contacts(client, sequence))[0]
    answer = await client.post(f"/api/sequences/{sequence['id']}/contacts/{contact['id']}/{action}")
    assert answer.status_code == 200, answer.text


async def test_who_is_enrolled_by_hand_is_told_of_with_the_next_message(
    client: AsyncClient, sequence: Row, sessions: SessionMaker
):
    plan = await look(sessions, client, sequence, NINE - timedelta(hours=1))
    assert (plan.action, plan.next_at) == (StepAction.WAIT, NINE)
    row = (await contacts(client, sequence))[0]
    assert (row["next_message"], row["progress"]) == ("Tue 09:00", "day 0 of 4")
    await look(sessions, client, sequence, NINE)
    await send_all(sessions, NINE)
    row = (await contacts(client, sequence))[0]
    assert (row["next_message"], row["progress"], row["current_step"]) == ("Wed 09:00", "day 1 of 4", 1)
    assert row["last_outcome"] == "sent"


async def test_a_pause_takes_back_what_is_queued_and_the_same_message_goes_out_later(
    client: AsyncClient, sequence: Row, sessions: SessionMaker, clock: MovableClock
):
    await look(sessions, client, sequence, NINE)
    assert await queued(sessions) == [("pending", 0)]
    set_clock(clock, NINE + timedelta(minutes=1))
    await act(client, sequence, "pause")
    assert await queued(sessions) == [("cancelled", 0)]
    assert (await look(sessions, client, sequence, NINE + timedelta(hours=1))).next_at is None
    set_clock(clock, NINE + timedelta(days=3, hours=1))
    await act(client, sequence, "resume")
    plan = await look(sessions, client, sequence, NINE + timedelta(days=3, hours=1))
    assert plan.next_at == NINE + 4 * DAY
    await look(sessions, client, sequence, NINE + 4 * DAY)
    assert await queued(sessions) == [("pending", 0)]
    await send_all(sessions, NINE + 4 * DAY)
    assert (await contacts(client, sequence))[0]["next_send_at"] == (NINE + 5 * DAY).isoformat().replace("+00:00", "Z")


async def test_a_paused_sequence_puts_off_what_fell_due_by_whole_days(
    client: AsyncClient, sequence: Row, sessions: SessionMaker, clock: MovableClock
):
    path = f"/api/sequences/{sequence['id']}"
    await look(sessions, client, sequence, NINE)
    await send_all(sessions, NINE)
    set_clock(clock, NINE + timedelta(hours=2))
    await client.post(f"{path}/pause")
    assert (await look(sessions, client, sequence, NINE + DAY)).next_at is None
    set_clock(clock, NINE + 6 * DAY + timedelta(hours=2))
    await client.post(f"{path}/start")
    contact = (await contacts(client, sequence))[0]["id"]
    assert (await read_contact(sessions, contact)).wanted_at is not None
    plan = await look(sessions, client, sequence, NINE + 6 * DAY + timedelta(hours=2))
    assert plan.next_at == NINE + 7 * DAY
    assert (await read_contact(sessions, contact)).wanted_at is None
    assert len(await queued(sessions)) == 1


async def test_a_skipped_step_is_never_queued(client: AsyncClient, sequence: Row, sessions: SessionMaker, clock: MovableClock):
    await look(sessions, client, sequence, NINE)
    await send_all(sessions, NINE)
    set_clock(clock, NINE + timedelta(hours=1))
    await act(client, sequence, "skip")
    assert (await look(sessions, client, sequence, NINE + timedelta(hours=1))).next_at == NINE + 3 * DAY
    await look(sessions, client, sequence, NINE + 3 * DAY)
    await send_all(sessions, NINE + 3 * DAY)
    assert (await look(sessions, client, sequence, NINE + 3 * DAY + timedelta(minutes=5))).action is StepAction.END
    row = (await contacts(client, sequence))[0]
    assert (row["status"], row["progress"], len(await queued(sessions))) == ("completed", "day 4 of 4", 2)


async def test_who_starts_over_gets_every_step_once_more(
    client: AsyncClient, sequence: Row, sessions: SessionMaker, clock: MovableClock
):
    await look(sessions, client, sequence, NINE)
    await send_all(sessions, NINE)
    set_clock(clock, NINE + timedelta(hours=1))
    await act(client, sequence, "restart")
    assert (await look(sessions, client, sequence, NINE + timedelta(hours=1))).next_at == NINE + DAY
    await look(sessions, client, sequence, NINE + DAY)
    assert await queued(sessions) == [("sent", 0), ("pending", 1)]


async def test_an_edit_reaches_who_has_not_passed_the_step(
    client: AsyncClient, sequence: Row, sessions: SessionMaker, clock: MovableClock
):
    path = f"/api/sequences/{sequence['id']}"
    await look(sessions, client, sequence, NINE)
    await send_all(sessions, NINE)
    steps = [{"day": 1, "send_time": "07:00"}, {"day": 2, "send_time": "11:30"}, {"day": 4}]
    await client.put(path, json={"steps": steps})
    at = NINE + timedelta(hours=1)
    assert (await look(sessions, client, sequence, at)).next_at == NINE + DAY + timedelta(hours=2, minutes=30)
    await client.put(path, json={"steps": [{"day": 1}, {"day": 4}]})
    assert (await look(sessions, client, sequence, at)).next_at == NINE + 3 * DAY
    await client.put(path, json={"steps": [{"day": 1}]})
    assert (await look(sessions, client, sequence, at)).action is StepAction.END


async def test_removing_a_contact_or_the_sequence_ends_the_walk(
    client: AsyncClient, sequence: Row, sessions: SessionMaker, clock: MovableClock
):
    await enroll(client, sequence, "0123456780")
    first, second = await contacts(client, sequence)
    user = UUID(sequence["user_id"])
    orders = [StepOrder(contact["id"], user, NINE) for contact in (first, second)]
    async with sessions.begin() as session:
        await move_contacts(session, orders)
    await client.delete(f"/api/sequences/{sequence['id']}/contacts/{first['id']}")
    assert sorted(await queued(sessions)) == [("cancelled", 0), ("pending", 0)]
    await client.delete(f"/api/sequences/{sequence['id']}")
    async with sessions.begin() as session:
        plans = (await move_contacts(session, orders)).plans
    assert {plan.action for plan in plans.values()} == {StepAction.END}
    assert await queued(sessions) == [("cancelled", 0), ("cancelled", 0)]
    async with sessions() as session:
        kept = await session.scalar(select(func.count()).select_from(Sequence).where(Sequence.deleted_at.is_not(None)))
    assert kept == 1
