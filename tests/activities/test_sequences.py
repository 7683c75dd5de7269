"""Enrolling on a real ledger: every lead that matches, once, in pages, and telling the contacts' workflows."""

from datetime import date, time, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities.resources import Resources
from activities.sequences import SequenceActivities
from activities.sweeps import SweepActivities
from siaran.contracts import EnrollingResult, SequenceInput, enrollment_workflow_id, sequence_workflow_id
from siaran.enrolling import PAGE, first_due
from siaran.errors import NotFound
from siaran.forgotten_sequences import forgotten_sequences
from siaran.models import (
    Enrollment,
    EnrollmentStatus,
    Lead,
    MessageStatus,
    Sequence,
    SequenceLog,
    SequenceRetry,
    SequenceStatus,
)
from tests.activities.conftest import HandClock
from tests.factories import NOW, add_lead, add_one_off, add_user, after, suppress
from tests.ledger.driver import Ledger
from tests.sequence_rows import add_contact, add_sequence


class Enrolling:
    """The activity of sequences' workflows."""

    def __init__(self, resources: Resources, ledger: Ledger, environment: ActivityEnvironment) -> None:
        self._activities = SequenceActivities(resources)
        self._environment = environment
        self.ledger = ledger

    async def sequence(self, **columns: Any) -> Sequence:
        async with self.ledger.sessions.begin() as session:
            return await add_sequence(session, self.ledger.user, **columns)

    async def lead(self, **columns: Any) -> Lead:
        async with self.ledger.sessions.begin() as session:
            return await add_lead(session, self.ledger.user, **{"updated_at": NOW, **columns})

    async def enroll(self, sequence: Sequence, user_id: Any = None) -> EnrollingResult:
        order = SequenceInput(sequence.id, user_id or sequence.user_id)
        result: EnrollingResult = await self._environment.run(self._activities.enroll, order)
        return result

    async def contacts(self, sequence: Sequence) -> list[Enrollment]:
        query = select(Enrollment).where(Enrollment.sequence_id == sequence.id).order_by(Enrollment.id)
        async with self.ledger.sessions() as session:
            return list(await session.scalars(query))


@pytest.fixture
def enrolling(resources: Resources, ledger: Ledger, environment: ActivityEnvironment) -> Enrolling:
    """Enrolling at nine in the morning in Kuala Lumpur."""
    return Enrolling(resources, ledger, environment)


async def signals(client: Client, contact: Enrollment) -> list[str] | None:
    """The signals that a contact's workflow has had; None where it was never started."""
    handle = client.get_workflow_handle(enrollment_workflow_id(contact.sequence_id, contact.lead_id or 0))
    try:
        history = await handle.fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]


async def test_everyone_who_matches_is_enrolled_and_their_workflows_started(
    enrolling: Enrolling, temporal_client: Client
) -> None:
    match = await enrolling.lead(niche="EXSTART,ITADRESS")
    await enrolling.lead(niche="EXSTART")
    await enrolling.lead(niche="ITADRESSES")
    sequence = await enrolling.sequence(niche="ITADRESS", steps={1: time(10), 2: None})

    result = await enrolling.enroll(sequence)

    assert result == EnrollingResult(enrolled=1, started=1, signalled=0, status="active", contacts=1)
    [contact] = await enrolling.contacts(sequence)
    assert (contact.lead_id, contact.contact_phone, contact.contact_name) == (match.id, match.phone, match.name)
    assert (contact.day_one_on, contact.day_one_time, contact.current_day) == (date(2026, 3, 2), time(10), 0)
    assert (contact.next_send_at, contact.enrolled_at, contact.workflow_started_at) == (after(3600), NOW, NOW)
    assert await signals(temporal_client, contact) == []


@pytest.mark.parametrize(("target", "count"), [("all", 2), ("customer", 1), ("prospect", 1)])
async def test_the_target_status_is_heeded(enrolling: Enrolling, target: str, count: int) -> None:
    await enrolling.lead(target_status="customer")
    await enrolling.lead(target_status="prospect")

    assert (await enrolling.enroll(await enrolling.sequence(target_status=target))).enrolled == count


async def test_a_lead_that_is_new_or_newly_tagged_is_enrolled_later_and_nobody_twice(
    enrolling: Enrolling, clock: HandClock
) -> None:
    old = await enrolling.lead(niche="A")
    tagged = await enrolling.lead(niche="B")
    sequence = await enrolling.sequence(niche="A")
    assert (await enrolling.enroll(sequence)).enrolled == 1
    clock.now = after(3600)
    new = await enrolling.lead(niche="A", updated_at=clock.now)
    await enrolling.ledger.change(tagged, niche="A,B", niches=["A", "B"], updated_at=clock.now)

    assert (await enrolling.enroll(sequence)).enrolled == 2
    assert (await enrolling.enroll(sequence)).enrolled == 0
    assert {contact.lead_id for contact in await enrolling.contacts(sequence)} == {old.id, new.id, tagged.id}


async def test_a_lead_whose_change_was_committed_late_is_not_missed(enrolling: Enrolling, clock: HandClock) -> None:
    sequence = await enrolling.sequence()
    clock.now = after(600)
    await enrolling.enroll(sequence)
    await enrolling.lead(updated_at=after(400))

    assert (await enrolling.enroll(sequence)).enrolled == 1


async def test_after_a_change_of_the_niche_all_leads_are_looked_at_again(enrolling: Enrolling, clock: HandClock) -> None:
    await enrolling.lead(niche="B")
    sequence = await enrolling.sequence(niche="A")
    await enrolling.enroll(sequence)
    clock.now = after(3600)
    await enrolling.ledger.change(sequence, niche="B", enrolled_until_at=None)

    assert (await enrolling.enroll(sequence)).enrolled == 1


async def test_who_left_was_removed_or_edited_the_phone_is_not_enrolled_again(enrolling: Enrolling) -> None:
    sequence = await enrolling.sequence()
    for status in (EnrollmentStatus.LEFT, EnrollmentStatus.REMOVED, EnrollmentStatus.COMPLETED):
        async with enrolling.ledger.sessions.begin() as session:
            await add_contact(session, sequence, await add_lead(session, enrolling.ledger.user), status=status)
    await enrolling.ledger.change(await enrolling.lead(), phone="60129999999")
    assert (await enrolling.enroll(sequence)).enrolled == 1
    async with enrolling.ledger.sessions.begin() as session:
        await session.execute(update(Lead).where(Lead.phone == "60129999999").values(phone="60128888888"))

    assert (await enrolling.enroll(sequence)).enrolled == 0


@pytest.mark.parametrize(("leaves", "count"), [(True, 0), (False, 1)])
async def test_who_has_opted_out_is_not_enrolled_where_opting_out_ends_the_sequence(
    enrolling: Enrolling, leaves: bool, count: int
) -> None:
    lead = await enrolling.lead()
    async with enrolling.ledger.sessions.begin() as session:
        await suppress(session, lead.user_id, lead.phone)

    assert (await enrolling.enroll(await enrolling.sequence(leave_on_opt_out=leaves))).enrolled == count


async def test_leads_of_another_user_are_never_enrolled_and_their_sequence_is_not_found(enrolling: Enrolling) -> None:
    async with enrolling.ledger.sessions.begin() as session:
        stranger = await add_user(session)
        await add_lead(session, stranger)
    sequence = await enrolling.sequence()

    assert (await enrolling.enroll(sequence)).enrolled == 0
    with pytest.raises(NotFound):
        await enrolling.enroll(sequence, stranger.id)


@pytest.mark.parametrize("columns", [{"status": SequenceStatus.DRAFT}, {"status": SequenceStatus.PAUSED}, {"steps": {}}])
async def test_a_sequence_that_is_not_active_or_has_no_steps_enrolls_nobody_and_forgets_nobody(
    enrolling: Enrolling, columns: dict[str, Any]
) -> None:
    await enrolling.lead()
    sequence = await enrolling.sequence(**columns)

    assert (await enrolling.enroll(sequence)).enrolled == 0
    async with enrolling.ledger.sessions() as session:
        assert (await session.get_one(Sequence, sequence.id)).enrolled_until_at is None


async def test_a_lead_may_be_in_several_sequences_each_with_its_own_workflow(
    enrolling: Enrolling, temporal_client: Client
) -> None:
    await enrolling.lead()
    sequences = [await enrolling.sequence() for _ in range(2)]
    for sequence in sequences:
        assert (await enrolling.enroll(sequence)).started == 1

    contacts = [contact for sequence in sequences for contact in await enrolling.contacts(sequence)]
    assert [await signals(temporal_client, contact) for contact in contacts] == [[], []]


async def test_thousands_stamped_at_one_instant_are_enrolled_page_by_page_and_started_in_parts(
    enrolling: Enrolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.sequences.MOST", 20)
    monkeypatch.setattr("activities.sequences.AT_A_TIME", 10)
    async with enrolling.ledger.sessions.begin() as session:
        await session.execute(
            text("""
                INSERT INTO leads (user_id, name, phone, niche, niches, journey, status, target_status, source, updated_at)
                SELECT :user, 'Ali', '601' || (10000000 + n), '', '{}', '', 'new', 'prospect', 'manual', :now
                FROM generate_series(1, :count) n
            """),
            {"user": enrolling.ledger.user.id, "now": NOW, "count": PAGE * 2 + 1},
        )
    sequence = await enrolling.sequence()

    first = await enrolling.enroll(sequence)
    second = await enrolling.enroll(sequence)

    assert (first.enrolled, first.contacts, first.started, first.has_more) == (PAGE * 2 + 1, PAGE * 2 + 1, 20, True)
    assert (second.enrolled, second.started, second.has_more) == (0, 20, True)
    async with enrolling.ledger.sessions() as session:
        started = select(func.count()).where(Enrollment.workflow_started_at.is_not(None))
        assert await session.scalar(started) == 40
        assert await session.scalar(select(func.count()).select_from(SequenceLog)) == PAGE * 2 + 1


async def test_contacts_of_whom_something_changed_are_told_once(enrolling: Enrolling, temporal_client: Client) -> None:
    sequence = await enrolling.sequence()
    async with enrolling.ledger.sessions.begin() as session:
        told = await add_contact(session, sequence, wanted_at=NOW, status=EnrollmentStatus.PAUSED)
        quiet = await add_contact(session, sequence, next_send_at=after(60))

    results = [await enrolling.enroll(sequence) for _ in range(2)]

    assert [result.signalled for result in results] == [1, 0]
    assert [await signals(temporal_client, contact) for contact in (told, quiet)] == [["changed"], None]


async def test_a_contact_whose_time_has_long_passed_is_told(
    enrolling: Enrolling, clock: HandClock, temporal_client: Client
) -> None:
    sequence = await enrolling.sequence()
    async with enrolling.ledger.sessions.begin() as session:
        forgotten = await add_contact(session, sequence, next_send_at=after(60))
        late = await add_contact(session, sequence, next_send_at=after(1700))
    clock.now = after(1800)

    assert (await enrolling.enroll(sequence)).signalled == 1
    assert [await signals(temporal_client, contact) for contact in (forgotten, late)] == [["changed"], None]


async def test_open_requests_for_failed_steps_reach_the_contacts_workflow(
    enrolling: Enrolling, temporal_client: Client
) -> None:
    device = await enrolling.ledger.device()
    sequence = await enrolling.sequence()
    async with enrolling.ledger.sessions.begin() as session:
        contact = await add_contact(session, sequence, status=EnrollmentStatus.COMPLETED)
        message = await add_one_off(session, device)
        for done_at in (None, NOW):
            session.add(
                SequenceRetry(
                    user_id=sequence.user_id,
                    sequence_id=sequence.id,
                    enrollment_id=contact.id,
                    message_id=message,
                    requested_by=sequence.user_id,
                    requested_at=NOW,
                    done_at=done_at,
                )
            )

    assert (await enrolling.enroll(sequence)).signalled == 1
    assert await signals(temporal_client, contact) == ["retry_failed"]


async def test_deleting_a_sequence_cancels_what_is_queued_and_ends_the_walks(
    enrolling: Enrolling, temporal_client: Client
) -> None:
    device = await enrolling.ledger.device()
    sequence = await enrolling.sequence()
    async with enrolling.ledger.sessions.begin() as session:
        walking = await add_contact(session, sequence)
        done = await add_contact(session, sequence, status=EnrollmentStatus.COMPLETED)
        message = await add_one_off(session, device, sequence_id=sequence.id)
    await enrolling.ledger.change(sequence, status=SequenceStatus.PAUSED, deleted_at=NOW)

    results = [await enrolling.enroll(sequence) for _ in range(2)]

    assert [(result.signalled, result.is_over, result.status) for result in results] == [
        (1, True, "deleted"),
        (0, True, "deleted"),
    ]
    assert await enrolling.ledger.status(message) == MessageStatus.CANCELLED
    assert [await signals(temporal_client, contact) for contact in (walking, done)] == [["changed"], None]
    assert len(await enrolling.contacts(sequence)) == 2


async def test_the_first_due_time_is_known_before_anyone_is_enrolled(enrolling: Enrolling) -> None:
    sequence, empty = await enrolling.sequence(steps={1: time(8), 2: None}), await enrolling.sequence(steps={})
    async with enrolling.ledger.sessions() as session:
        assert await first_due(session, sequence, NOW) == NOW + timedelta(hours=23)
        assert await first_due(session, empty, NOW) is None


async def forgotten(ledger: Ledger, seconds: float) -> list[Any]:
    async with ledger.sessions() as session:
        return [found.sequence_id for found in await forgotten_sequences(session, after(seconds))]


async def test_sequences_with_something_to_do_that_nobody_told_them_are_found(enrolling: Enrolling) -> None:
    quiet = {"enrolled_until_at": after(600)}
    new, overdue, unstarted, wanted, changed, deleted = [await enrolling.sequence(**quiet) for _ in range(6)]
    await enrolling.ledger.change(new, enrolled_until_at=None)
    async with enrolling.ledger.sessions.begin() as session:
        await add_contact(session, overdue, next_send_at=NOW)
        await add_contact(session, unstarted, workflow_started_at=None)
        await add_contact(session, wanted, wanted_at=NOW, next_send_at=after(5000))
        await add_contact(session, deleted)
        await session.execute(update(Lead).values(updated_at=NOW))
    await enrolling.ledger.change(wanted, status=SequenceStatus.PAUSED)
    await enrolling.ledger.change(deleted, status=SequenceStatus.PAUSED, deleted_at=after(100))
    await enrolling.ledger.change(changed, enrolled_until_at=after(-100))

    found = await forgotten(enrolling.ledger, 1000)

    assert set(found) == {new.id, overdue.id, unstarted.id, wanted.id, changed.id, deleted.id}


async def test_sequences_that_go_their_way_are_left_alone(enrolling: Enrolling) -> None:
    active = await enrolling.sequence(enrolled_until_at=after(600))
    draft = await enrolling.sequence(status=SequenceStatus.DRAFT)
    async with enrolling.ledger.sessions.begin() as session:
        await add_contact(session, active, next_send_at=after(950))
        await add_contact(session, active, status=EnrollmentStatus.PAUSED)
        await add_contact(session, active, status=EnrollmentStatus.LEFT, workflow_started_at=None)
        await add_contact(session, draft, workflow_started_at=None)
        await session.execute(update(Lead).values(updated_at=NOW))

    assert await forgotten(enrolling.ledger, 1000) == []


async def test_the_sweep_nudges_forgotten_sequences(
    enrolling: Enrolling, resources: Resources, environment: ActivityEnvironment, temporal_client: Client
) -> None:
    sequence = await enrolling.sequence()

    assert (await environment.run(SweepActivities(resources).sweep)).sequences == 1

    found = await temporal_client.get_workflow_handle(sequence_workflow_id(sequence.id)).describe()
    assert found.status is WorkflowExecutionStatus.RUNNING


async def test_an_unknown_sequence_is_not_found(enrolling: Enrolling) -> None:
    with pytest.raises(NotFound):
        await enrolling.enroll(Sequence(id=uuid4(), user_id=enrolling.ledger.user.id))
