"""Contacts of sequences on a real ledger: many are moved on together, each step is queued once and at its time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.enrollments import EnrollmentActivities
from activities.resources import Resources
from siaran.contracts import StepAction, StepOrder, StepPlan, StepRetry
from siaran.enrollment_steps import move_contacts
from siaran.errors import NotFound
from siaran.gateway.interface import Incoming
from siaran.incoming import take_in
from siaran.leaving import leave_on_opt_out, leave_on_reply
from siaran.models import (
    BroadcastMessage,
    Device,
    DeviceStatus,
    DeviceStrategy,
    Enrollment,
    EnrollmentStatus,
    MessageStatus,
    Sequence,
    SequenceLog,
    SequenceRetry,
    SequenceStatus,
    SequenceStep,
)
from siaran.opt_outs import add_opt_outs
from siaran.step_withdrawals import withdraw_steps
from siaran.user_settings import change_settings
from tests.activities.conftest import HandClock
from tests.activities.lanes_seen import signals_of_lane
from tests.factories import NOW, add_lead, add_user
from tests.ledger.driver import Ledger, record_of
from tests.sequence_rows import add_contact, add_sequence

# NOW is 09:00 in Kuala Lumpur.
NEXT_DAY = NOW + timedelta(days=1)


class Walks:
    """Contacts of one sequence and what happens to them."""

    def __init__(self, resources: Resources, ledger: Ledger, environment: ActivityEnvironment) -> None:
        self.activities = EnrollmentActivities(resources)
        self.ledger = ledger
        self._environment = environment

    async def sequence(self, steps: dict[int, time | None] | None = None, **columns: Any) -> Sequence:
        async with self.ledger.sessions.begin() as session:
            return await add_sequence(session, self.ledger.user, steps, **columns)

    async def contact(self, sequence: Sequence, **columns: Any) -> Enrollment:
        async with self.ledger.sessions.begin() as session:
            return await add_contact(session, sequence, **columns)

    async def look(self, contact: Enrollment, now: datetime = NOW) -> StepPlan:
        plan: StepPlan = await self._environment.run(self.activities.take_step, StepOrder(contact.id, contact.user_id, now))
        return plan

    async def retry(self, contact: Enrollment, message: BroadcastMessage) -> int:
        retried: int = await self._environment.run(
            self.activities.retry_step, StepRetry(contact.id, contact.user_id, message.id)
        )
        return retried

    async def row(self, contact: Enrollment) -> Enrollment:
        async with self.ledger.sessions() as session:
            return await session.get_one(Enrollment, contact.id)

    async def messages(self, *contacts: Enrollment) -> list[BroadcastMessage]:
        ids = [contact.id for contact in contacts]
        query = select(BroadcastMessage).where(BroadcastMessage.enrollment_id.in_(ids)).order_by(BroadcastMessage.id)
        async with self.ledger.sessions() as session:
            return list(await session.scalars(query))

    async def send(self, device: Device, at: datetime, **how: Any) -> None:
        """What the device's host does with the next message."""
        claim = await self.ledger.claimed(device, at=at)
        await self.ledger.record(record_of(claim, at=at, **how))

    async def events(self, contact: Enrollment) -> list[tuple[str, str | None]]:
        query = select(SequenceLog).where(SequenceLog.enrollment_id == contact.id).order_by(SequenceLog.id)
        async with self.ledger.sessions() as session:
            return [(line.event, line.detail) for line in await session.scalars(query)]


@pytest.fixture
async def walks(resources: Resources, ledger: Ledger, environment: ActivityEnvironment) -> AsyncIterator[Walks]:
    """The activities of contacts' workflows."""
    walks = Walks(resources, ledger, environment)
    yield walks
    await walks.activities.close()


async def test_a_step_that_is_due_is_queued_and_its_lane_woken(walks: Walks, temporal_client: Client) -> None:
    device = await walks.ledger.device()
    sequence = await walks.sequence()
    contact = await walks.contact(sequence)

    plan = await walks.look(contact)

    assert plan == StepPlan(StepAction.WAIT, NEXT_DAY, 1, 3, "next 2026-03-03 09:00")
    [message] = await walks.messages(contact)
    assert (message.source, message.device_id, message.recipient_phone) == (
        f"sequence:{sequence.id}",
        device.id,
        contact.contact_phone,
    )
    assert (message.status, message.scheduled_at, message.sequence_id) == (MessageStatus.PENDING, NOW, sequence.id)
    await walks.activities.close()
    assert await signals_of_lane(temporal_client, device) == ["wake"]
    row = await walks.row(contact)
    assert (row.day_one_on, row.day_one_time, row.current_day, row.current_step) == (date(2026, 3, 2), time(9), 1, 1)
    assert row.next_send_at == NEXT_DAY
    assert await walks.events(contact) == [("queued", "day 1")]


async def test_looking_again_queues_nothing_twice(walks: Walks) -> None:
    await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())

    plans = [await walks.look(contact, NOW + timedelta(minutes=minutes)) for minutes in (0, 1, 2)]

    assert len({plan.next_at for plan in plans}) == 1
    assert len(await walks.messages(contact)) == 1


async def test_many_contacts_are_moved_on_in_one_transaction_and_dealt_out_over_the_devices(walks: Walks) -> None:
    devices = [await walks.ledger.device() for _ in range(3)]
    sequence = await walks.sequence()
    contacts = [await walks.contact(sequence) for _ in range(30)]

    plans = await asyncio.gather(*(walks.look(contact) for contact in contacts))

    assert {plan.next_at for plan in plans} == {NEXT_DAY}
    messages = await walks.messages(*contacts)
    assert sorted(message.enrollment_id or 0 for message in messages) == [contact.id for contact in contacts]
    assert [sum(message.device_id == device.id for message in messages) for device in devices] == [10, 10, 10]


async def test_a_repeat_of_a_whole_batch_changes_nothing(walks: Walks) -> None:
    await walks.ledger.device()
    sequence = await walks.sequence()
    contacts = [await walks.contact(sequence) for _ in range(5)]
    orders = [StepOrder(contact.id, contact.user_id, NOW) for contact in contacts]
    for _ in range(2):
        async with walks.ledger.sessions.begin() as session:
            moved = await move_contacts(session, orders)

    assert not moved.devices
    assert {plan.next_at for plan in moved.plans.values()} == {NEXT_DAY}
    assert len(await walks.messages(*contacts)) == 5


async def test_contacts_of_different_users_in_one_batch_keep_to_their_own_devices(walks: Walks) -> None:
    own = await walks.ledger.device()
    mine = await walks.contact(await walks.sequence())
    async with walks.ledger.sessions.begin() as session:
        stranger = await add_user(session, timezone="America/New_York")
        theirs = await add_contact(session, await add_sequence(session, stranger, {1: None}))

    await asyncio.gather(walks.look(mine), walks.look(theirs))

    assert [message.device_id for message in await walks.messages(mine)] == [own.id]
    assert await walks.messages(theirs) == [], "they have no device"


async def test_somebody_elses_contact_is_not_found(walks: Walks) -> None:
    contact = await walks.contact(await walks.sequence())
    stranger = Enrollment(id=contact.id, user_id=uuid4())

    with pytest.raises(NotFound):
        await walks.look(stranger)
    assert await walks.messages(contact) == []


async def test_the_next_step_waits_for_the_one_before_and_then_for_the_next_day(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    await walks.look(contact)

    behind = await walks.look(contact, NEXT_DAY)
    later = await walks.look(contact, NEXT_DAY + timedelta(hours=1))
    await walks.send(device, NEXT_DAY + timedelta(hours=2))
    after = await walks.look(contact, NEXT_DAY + timedelta(hours=3))

    assert behind.next_at == NEXT_DAY + timedelta(minutes=5)
    assert later.next_at == NEXT_DAY + timedelta(minutes=90), "the wait grows with what has passed"
    assert after.next_at == NEXT_DAY + timedelta(days=1), "never two steps on one day"
    assert len(await walks.messages(contact)) == 1
    assert (await walks.row(contact)).shifted_days == 1


async def test_a_worker_that_was_down_for_days_sends_the_late_step_and_moves_the_others(walks: Walks) -> None:
    await walks.ledger.device()
    contact = await walks.contact(await walks.sequence(), day_one_on=date(2026, 3, 2), day_one_time=time(9))

    plan = await walks.look(contact, NOW + timedelta(days=3, hours=6))

    assert plan.next_at == NOW + timedelta(days=4)
    [message] = await walks.messages(contact)
    assert message.scheduled_at == NOW


async def test_a_walk_is_completed_once_its_last_message_has_gone_out(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence({1: time(9)}))

    queued = await walks.look(contact)
    waiting = await walks.look(contact, NOW + timedelta(minutes=5))
    await walks.send(device, NOW + timedelta(minutes=6))
    ended = await walks.look(contact, NOW + timedelta(minutes=10))

    assert [queued.next_at, waiting.next_at] == [NOW + timedelta(minutes=5), NOW + timedelta(minutes=10)]
    assert (ended.action, ended.why) == (StepAction.END, "completed")
    row = await walks.row(contact)
    assert (row.status, row.completed_at, row.next_send_at) == (
        EnrollmentStatus.COMPLETED,
        NOW + timedelta(minutes=10),
        None,
    )
    assert row.last_message_at == NOW + timedelta(minutes=6)
    assert await walks.events(contact) == [("queued", "day 1"), ("completed", None)]


async def test_a_completed_contact_is_not_revived_by_a_later_step(walks: Walks) -> None:
    await walks.ledger.device()
    sequence = await walks.sequence({1: time(9)})
    contact = await walks.contact(sequence, status=EnrollmentStatus.COMPLETED, current_day=1, completed_at=NOW)
    async with walks.ledger.sessions.begin() as session:
        session.add(SequenceStep(user_id=sequence.user_id, sequence_id=sequence.id, day=2, content="More"))

    assert (await walks.look(contact, NEXT_DAY)).action is StepAction.END
    assert await walks.messages(contact) == []


async def test_a_step_that_is_added_or_taken_out_counts_for_everyone_who_has_not_passed_it(walks: Walks) -> None:
    await walks.ledger.device()
    sequence = await walks.sequence({1: time(9), 3: time(9)})
    contact = await walks.contact(sequence, current_day=1, day_one_on=date(2026, 3, 2), day_one_time=time(9))
    async with walks.ledger.sessions.begin() as session:
        await session.execute(update(SequenceStep).where(SequenceStep.day == 3).values(deleted_at=NOW))
        session.add(SequenceStep(user_id=sequence.user_id, sequence_id=sequence.id, day=2, content="New", send_time=time(11)))

    plan = await walks.look(contact, NOW + timedelta(hours=1))

    assert (plan.next_at, plan.days) == (NEXT_DAY + timedelta(hours=2), 2)


@pytest.mark.parametrize("status", [SequenceStatus.DRAFT, SequenceStatus.PAUSED])
async def test_nobody_moves_on_while_the_sequence_is_not_active(walks: Walks, status: SequenceStatus) -> None:
    device = await walks.ledger.device()
    sequence = await walks.sequence()
    contact = await walks.contact(sequence)
    await walks.look(contact)
    await walks.ledger.change(sequence, status=status)

    parked = await walks.look(contact, NOW + timedelta(days=2))

    assert (parked.action, parked.next_at) == (StepAction.WAIT, None)
    [message] = await walks.messages(contact)
    assert message.status == MessageStatus.PENDING, "it keeps its place"
    assert await walks.ledger.claim(device, at=NOW + timedelta(days=2)) is None


async def test_a_resumed_sequence_goes_on_at_the_same_time_of_day_and_sends_no_burst(walks: Walks) -> None:
    device = await walks.ledger.device()
    sequence = await walks.sequence()
    contact = await walks.contact(sequence)
    await walks.look(contact)
    await walks.send(device, NOW)
    await walks.ledger.change(sequence, status=SequenceStatus.PAUSED)
    await walks.look(contact, NEXT_DAY)
    resumed_at = NOW + timedelta(days=4, hours=3)
    await walks.ledger.change(sequence, status=SequenceStatus.ACTIVE, resumed_at=resumed_at)

    plan = await walks.look(contact, resumed_at + timedelta(seconds=2))
    later = await walks.look(contact, NOW + timedelta(days=5))

    assert plan.next_at == NOW + timedelta(days=5)
    assert later.next_at == NOW + timedelta(days=6)
    assert [message.scheduled_at for message in await walks.messages(contact)] == [NOW, NOW + timedelta(days=5)]


async def test_a_paused_contact_keeps_the_place_and_is_sent_the_same_step_later(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    await walks.look(contact)
    await walks.ledger.change(contact, status=EnrollmentStatus.PAUSED, paused_at=NOW)

    parked = await walks.look(contact, NOW + timedelta(minutes=1))
    assert (parked.action, parked.next_at, (await walks.row(contact)).current_day) == (StepAction.WAIT, None, 0)
    [message] = await walks.messages(contact)
    assert message.status == MessageStatus.CANCELLED
    assert await walks.ledger.claim(device) is None

    resumed_at = NOW + timedelta(days=2, hours=1)
    await walks.ledger.change(await walks.row(contact), status=EnrollmentStatus.ACTIVE, resumed_at=resumed_at)
    assert (await walks.look(contact, resumed_at)).next_at == NOW + timedelta(days=3)
    await walks.look(contact, NOW + timedelta(days=3))

    [again] = await walks.messages(contact)
    assert (again.id, again.status, again.scheduled_at) == (message.id, MessageStatus.PENDING, NOW + timedelta(days=3))


async def test_what_is_being_sent_is_not_taken_back(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    await walks.look(contact)
    await walks.ledger.claimed(device)

    async with walks.ledger.sessions.begin() as session:
        await withdraw_steps(session, [contact.id])

    [message] = await walks.messages(contact)
    assert message.status == MessageStatus.CLAIMED
    assert (await walks.row(contact)).current_day == 1


@pytest.mark.parametrize("status", [EnrollmentStatus.LEFT, EnrollmentStatus.REMOVED])
async def test_who_is_out_gets_nothing_more_and_the_walk_ends(walks: Walks, status: EnrollmentStatus) -> None:
    await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    await walks.look(contact)
    await walks.ledger.change(contact, status=status)

    assert (await walks.look(contact, NEXT_DAY)).action is StepAction.END

    [message] = await walks.messages(contact)
    assert message.status == MessageStatus.CANCELLED


async def test_a_deleted_sequence_ends_every_walk(walks: Walks) -> None:
    await walks.ledger.device()
    sequence = await walks.sequence()
    contact = await walks.contact(sequence)
    await walks.look(contact)
    await walks.ledger.change(sequence, status=SequenceStatus.PAUSED, deleted_at=NOW)

    assert (await walks.look(contact, NEXT_DAY)).action is StepAction.END

    [message] = await walks.messages(contact)
    assert message.status == MessageStatus.CANCELLED
    assert await walks.events(contact) == [("queued", "day 1")], "what happened stays"


async def test_a_contact_who_starts_over_gets_day_one_again_in_a_new_cycle(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    await walks.look(contact)
    await walks.send(device, NOW)
    at = NOW + timedelta(days=1, minutes=5)
    await walks.ledger.change(contact, cycle=1, current_day=0, day_one_on=None, day_one_time=None, shifted_days=0)

    first = await walks.look(contact, at)
    await walks.look(contact, NOW + timedelta(days=2))

    assert first.next_at == NOW + timedelta(days=2)
    assert [(message.cycle, message.scheduled_at) for message in await walks.messages(contact)] == [
        (0, NOW),
        (1, NOW + timedelta(days=2)),
    ]


async def test_a_skipped_step_is_passed_without_a_message(walks: Walks) -> None:
    await walks.ledger.device()
    contact = await walks.contact(await walks.sequence(), current_day=1, day_one_on=date(2026, 3, 2), day_one_time=time(9))
    await walks.ledger.change(contact, current_day=2)

    plan = await walks.look(contact, NEXT_DAY)

    assert plan.next_at == NOW + timedelta(days=2)
    assert await walks.messages(contact) == []


async def test_without_any_linked_device_the_contact_waits_and_loses_nothing(walks: Walks) -> None:
    contact = await walks.contact(await walks.sequence())

    plan = await walks.look(contact)
    assert (plan.next_at, plan.why) == (NOW + timedelta(minutes=5), "no linked device")

    await walks.ledger.device(status=DeviceStatus.OFFLINE)
    await walks.look(contact, NOW + timedelta(minutes=5))
    assert len(await walks.messages(contact)) == 1, "it waits at the linked device"


async def test_an_owner_sequence_writes_from_the_leads_device_alone(walks: Walks) -> None:
    devices = [await walks.ledger.device() for _ in range(2)]
    sequence = await walks.sequence(device_strategy=DeviceStrategy.OWNER)
    async with walks.ledger.sessions.begin() as session:
        lead = await add_lead(session, walks.ledger.user, device_id=devices[1].id)
        bound = await add_contact(session, sequence, lead)
    homeless = await walks.contact(sequence)

    await walks.look(bound)
    await walks.look(homeless)

    [message] = await walks.messages(bound)
    [failed] = await walks.messages(homeless)
    assert (message.device_id, message.status) == (devices[1].id, MessageStatus.PENDING)
    assert (failed.status, failed.error_code, failed.is_retryable) == (MessageStatus.FAILED, "no_own_device", False)


async def test_a_sticky_sequence_stays_with_the_device_that_wrote_last(walks: Walks) -> None:
    devices = [await walks.ledger.device() for _ in range(4)]
    sequence = await walks.sequence(device_strategy=DeviceStrategy.STICKY)
    contact = await walks.contact(sequence)
    await walks.look(contact)
    [first] = await walks.messages(contact)
    other = next(device for device in devices if device.id != first.device_id)
    await walks.ledger.change(first, device_id=other.id)
    await walks.send(other, NOW)

    await walks.look(contact, NEXT_DAY)

    assert [message.device_id for message in await walks.messages(contact)] == [other.id, other.id]


async def test_a_sequence_of_one_device_uses_no_other(walks: Walks) -> None:
    devices = [await walks.ledger.device() for _ in range(3)]
    sequence = await walks.sequence(device_id=devices[2].id)
    contacts = [await walks.contact(sequence) for _ in range(4)]

    await asyncio.gather(*(walks.look(contact) for contact in contacts))

    assert {message.device_id for message in await walks.messages(*contacts)} == {devices[2].id}


async def test_campaigns_and_sequences_take_turns_on_a_device(walks: Walks) -> None:
    device = await walks.ledger.device()
    campaign = await walks.ledger.campaign(min_delay_seconds=5, max_delay_seconds=7)
    await walks.ledger.messages(campaign, device, 4)
    sequence = await walks.sequence(min_delay_seconds=10, max_delay_seconds=20)
    contacts = [await walks.contact(sequence) for _ in range(4)]
    await asyncio.gather(*(walks.look(contact) for contact in contacts))

    sources, delays, last = [], {}, ""
    for _ in range(8):
        claim = await walks.ledger.claimed(device, after_source=last)
        await walks.ledger.record(record_of(claim))
        last = claim.source
        sources.append(last.partition(":")[0])
        delays[sources[-1]] = (claim.min_delay_seconds, claim.max_delay_seconds)

    assert sources == ["campaign", "sequence"] * 4
    assert delays == {"campaign": (5, 7), "sequence": (10, 20)}


async def failed_step(walks: Walks, device: Device, contact: Enrollment) -> BroadcastMessage:
    """A contact's first step, which has failed and may be tried again."""
    await walks.look(contact)
    await walks.send(device, NOW, status=MessageStatus.FAILED, error_code="503", is_retryable=True)
    [message] = await walks.messages(contact)
    assert message.status == MessageStatus.FAILED
    return message


async def ask(walks: Walks, contact: Enrollment, message: BroadcastMessage, at: datetime) -> None:
    async with walks.ledger.sessions.begin() as session:
        session.add(
            SequenceRetry(
                user_id=contact.user_id,
                sequence_id=contact.sequence_id,
                enrollment_id=contact.id,
                message_id=message.id,
                requested_by=contact.user_id,
                requested_at=at,
            )
        )


async def test_a_failed_step_is_sent_again_once_for_each_request(
    walks: Walks, clock: HandClock, temporal_client: Client
) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    message = await failed_step(walks, device, contact)

    assert await walks.retry(contact, message) == 0, "nobody has asked"
    clock.now = NOW + timedelta(hours=1)
    await ask(walks, contact, message, clock.now)
    assert [await walks.retry(contact, message) for _ in range(2)] == [1, 0]

    [again] = await walks.messages(contact)
    assert (again.status, again.scheduled_at) == (MessageStatus.PENDING, clock.now)
    assert "wake" in await signals_of_lane(temporal_client, device)
    await walks.send(device, clock.now)
    await walks.ledger.check()


async def test_a_retry_by_somebody_else_sends_nothing(walks: Walks, clock: HandClock) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    message = await failed_step(walks, device, contact)
    await ask(walks, contact, message, NOW + timedelta(hours=1))
    stranger = Enrollment(id=contact.id, user_id=uuid4())

    assert await walks.retry(stranger, message) == 0
    [row] = await walks.messages(contact)
    assert row.status == MessageStatus.FAILED


async def test_who_has_left_is_not_sent_a_failed_step_again(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    message = await failed_step(walks, device, contact)
    await ask(walks, contact, message, NOW + timedelta(hours=1))
    await walks.ledger.change(await walks.row(contact), status=EnrollmentStatus.LEFT)

    assert await walks.retry(contact, message) == 0
    async with walks.ledger.sessions() as session:
        assert (await session.scalars(select(SequenceRetry.done_at))).one() is not None


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_reply_ends_the_sequences_that_heed_it(walks: Walks, leaves: bool) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence(leave_on_reply=leaves))
    await walks.look(contact)
    person = (contact.user_id, contact.contact_phone)

    async with walks.ledger.sessions.begin() as session:
        assert await leave_on_reply(session, [person], NOW) == 0, "nothing has been sent that could be replied to"
    await walks.send(device, NOW)
    async with walks.ledger.sessions.begin() as session:
        assert await leave_on_reply(session, [person], NOW) == int(leaves)

    row = await walks.row(contact)
    wanted = (EnrollmentStatus.LEFT, "replied", NOW) if leaves else (EnrollmentStatus.ACTIVE, None, None)
    assert (row.status, row.left_because, row.wanted_at) == wanted


async def test_an_opt_out_takes_back_what_is_queued_and_spares_other_users(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    stays = await walks.contact(await walks.sequence(leave_on_opt_out=False), lead=await lead_of(walks, contact))
    async with walks.ledger.sessions.begin() as session:
        stranger = await add_user(session)
        lead = await add_lead(session, stranger, phone=contact.contact_phone)
        theirs = await add_contact(session, await add_sequence(session, stranger), lead)
    await walks.look(contact)

    async with walks.ledger.sessions.begin() as session:
        assert await leave_on_opt_out(session, [(contact.user_id, contact.contact_phone)], NOW) == 1

    assert [(await walks.row(one)).status for one in (contact, stays, theirs)] == [
        EnrollmentStatus.LEFT,
        EnrollmentStatus.ACTIVE,
        EnrollmentStatus.ACTIVE,
    ]
    assert await walks.ledger.claim(device) is None
    assert await walks.events(contact) == [("queued", "day 1"), ("left", "opted out")]


async def test_a_contact_who_writes_leaves_in_the_transaction_in_which_that_is_taken_in(walks: Walks) -> None:
    device = await walks.ledger.device()
    sequence = await walks.sequence(leave_on_reply=True)
    replies, opts_out, silent = [await walks.contact(sequence) for _ in range(3)]
    for contact in (replies, opts_out, silent):
        await walks.look(contact)
        await walks.send(device, NOW)

    async with walks.ledger.sessions.begin() as session:
        heard = [
            Incoming(device.id, contact.contact_phone, said, f"wa-{contact.id}", NOW)
            for contact, said in ((replies, "How much?"), (opts_out, "STOP"))
        ]
        await take_in(session, heard, NOW)

    found = [(row.status, row.left_because) for row in [await walks.row(one) for one in (replies, opts_out, silent)]]
    assert found == [
        (EnrollmentStatus.LEFT, "replied"),
        (EnrollmentStatus.LEFT, "opted out"),
        (EnrollmentStatus.ACTIVE, None),
    ]
    assert (await walks.look(replies, NEXT_DAY)).action is StepAction.END


async def test_who_is_opted_out_by_hand_leaves_too(walks: Walks) -> None:
    contact = await walks.contact(await walks.sequence())

    async with walks.ledger.sessions.begin() as session:
        await add_opt_outs(session, contact.user_id, [f"+{contact.contact_phone}"], country="MY", now=NOW)

    assert (await walks.row(contact)).left_because == "opted out"


async def lead_of(walks: Walks, contact: Enrollment) -> Any:
    async with walks.ledger.sessions() as session:
        return (await session.execute(text("SELECT * FROM leads WHERE id = :id"), {"id": contact.lead_id})).one()


async def test_summer_time_moves_no_clock_time(walks: Walks) -> None:
    """The night to 2026-03-08 has 23 hours in New York."""
    await walks.ledger.device()
    await walks.ledger.change(walks.ledger.user, timezone="America/New_York")
    contact = await walks.contact(await walks.sequence())
    seventh = datetime(2026, 3, 7, 14, tzinfo=UTC)

    plan = await walks.look(contact, seventh)

    assert plan.next_at == datetime(2026, 3, 8, 13, tzinfo=UTC)


async def test_a_user_who_moves_to_another_zone_has_steps_at_the_same_clock_time_there(walks: Walks) -> None:
    device = await walks.ledger.device()
    contact = await walks.contact(await walks.sequence())
    await walks.look(contact)
    await walks.send(device, NOW)
    async with walks.ledger.sessions.begin() as session:
        await change_settings(session, contact.user_id, {"timezone": "Asia/Tokyo"})

    assert (await walks.row(contact)).wanted_at is not None
    assert (await walks.look(contact, NOW + timedelta(hours=1))).next_at == NEXT_DAY - timedelta(hours=1)
    assert (await walks.row(contact)).wanted_at is None
