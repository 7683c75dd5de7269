"""What contacts write: replies are counted, opt-outs suppressed, and confirmed exactly once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from siaran.gateway.interface import Incoming
from siaran.incoming import KEPT, forget_incoming, take_in
from siaran.models import (
    ONE_OFF,
    BroadcastMessage,
    Device,
    IncomingMessage,
    Lead,
    MessageAnalytics,
    MessageStatus,
    Suppression,
    User,
)
from tests.factories import NOW, add_campaign, add_device, add_lead, add_messages, add_user, after, new_phone
from tests.ledger.driver import Ledger, record_of

ANSWER = "You will hear from us no more."


def message(device: Device, phone: str, text: str = "STOP", *, whatsapp_id: str = "wa-1", at: datetime = NOW) -> Incoming:
    """A contact's message to a device."""
    return Incoming(device.id, phone, text, whatsapp_id, at)


class Desk:
    """One user with a device that hears of things."""

    def __init__(self, ledger: Ledger, device: Device) -> None:
        self.ledger = ledger
        self.device = device

    @property
    def user(self) -> User:
        return self.ledger.user

    async def hear(self, *events: Incoming, at: datetime = NOW) -> set[UUID]:
        """Take messages in, in one transaction."""
        async with self.ledger.sessions.begin() as session:
            return await take_in(session, events, at)

    async def suppressions(self, user: User | None = None) -> list[Suppression]:
        query = select(Suppression).where(Suppression.user_id == (user or self.user).id).order_by(Suppression.id)
        async with self.ledger.sessions() as session:
            return list(await session.scalars(query))

    async def confirmations(self) -> Sequence[BroadcastMessage]:
        query = select(BroadcastMessage).where(BroadcastMessage.ignores_opt_out).order_by(BroadcastMessage.id)
        async with self.ledger.sessions() as session:
            return list(await session.scalars(query))

    async def replied(self, device: Device | None = None) -> dict[date, int]:
        query = select(MessageAnalytics).where(MessageAnalytics.device_id == (device or self.device).id)
        async with self.ledger.sessions() as session:
            return {row.day: row.replied for row in await session.scalars(query)}

    async def sent(self, phone: str, *, device: Device | None = None, at: datetime = NOW) -> int:
        """A campaign has written to the phone; returns its id."""
        campaign = await self.ledger.campaign()
        device = device or self.device
        await self.ledger.messages(campaign, device, [phone], status=MessageStatus.SENT, sent_at=at)
        return campaign.id


@pytest.fixture
async def desk(ledger: Ledger) -> Desk:
    await ledger.change(ledger.user, opt_out_reply=ANSWER)
    return Desk(ledger, await ledger.device())


async def test_who_replies_stop_is_suppressed_against_the_campaign_that_wrote_last(desk: Desk) -> None:
    phone = new_phone()
    await desk.sent(phone, at=after(-7200))
    latest = await desk.sent(phone, at=after(-60))
    await desk.sent(phone, at=after(-3600))

    await desk.hear(message(desk.device, phone, " stop! "))

    [row] = await desk.suppressions()
    assert (row.phone, row.reason, row.source) == (phone, "STOP", "reply")
    assert (row.device_id, row.campaign_id) == (desk.device.id, latest)
    assert (row.created_at, row.lifted_at) == (NOW, None)


async def test_an_opt_out_is_confirmed_by_one_message_ahead_of_all_others(desk: Desk) -> None:
    phone = new_phone()

    assert await desk.hear(message(desk.device, phone)) == {desk.device.id}

    [row] = await desk.confirmations()
    assert (row.source, row.device_id, row.recipient_phone) == (ONE_OFF, desk.device.id, phone)
    assert (row.content, row.message_type, row.status) == (ANSWER, "text", MessageStatus.PENDING)
    assert (await desk.suppressions())[0].confirmed_at == NOW
    claim = await desk.ledger.claimed(desk.device)
    assert (claim.message_id, claim.content, claim.is_suppressed) == (row.id, ANSWER, False)


async def test_a_suppressed_phone_gets_nothing_but_the_confirmation(desk: Desk) -> None:
    phone = new_phone()
    campaign = await desk.ledger.campaign()
    [waiting] = await desk.ledger.messages(campaign, desk.device, [phone])
    await desk.hear(message(desk.device, phone))

    confirmation = await desk.ledger.claimed(desk.device)
    await desk.ledger.record(record_of(confirmation))
    refused = await desk.ledger.claimed(desk.device)

    assert (confirmation.source, confirmation.is_suppressed) == (ONE_OFF, False)
    assert (refused.message_id, refused.is_suppressed) == (waiting, True)
    assert await desk.ledger.status(waiting) is MessageStatus.SUPPRESSED
    assert await desk.ledger.counts(campaign) == {"suppressed": 1}


async def test_the_same_message_delivered_again_changes_nothing(desk: Desk) -> None:
    phone = new_phone()
    await desk.sent(phone)
    event = message(desk.device, phone)
    await desk.hear(event, event)
    async with desk.ledger.sessions.begin() as session:
        (await session.get_one(Suppression, (await desk.suppressions())[0].id)).lifted_at = after(60)

    assert await desk.hear(event, at=after(120)) == set()

    assert [row.lifted_at for row in await desk.suppressions()] == [after(60)]
    assert len(await desk.confirmations()) == 1
    assert await desk.replied() == {date(2026, 3, 2): 1}


async def test_the_same_message_taken_in_twice_at_once_changes_nothing_the_second_time(desk: Desk) -> None:
    phone = new_phone()
    await desk.sent(phone)
    event = message(desk.device, phone)

    await asyncio.gather(*(desk.hear(event) for _ in range(5)))

    assert len(await desk.suppressions()) == len(await desk.confirmations()) == 1
    assert await desk.replied() == {date(2026, 3, 2): 1}


async def test_saying_stop_once_more_is_not_confirmed_once_more(desk: Desk) -> None:
    phone = new_phone()
    await desk.hear(message(desk.device, phone))

    assert (
        await desk.hear(
            message(desk.device, phone, whatsapp_id="wa-2"), message(desk.device, phone, "BERHENTI", whatsapp_id="wa-3")
        )
        == set()
    )

    assert len(await desk.suppressions()) == len(await desk.confirmations()) == 1


async def test_who_opts_out_again_after_a_lift_is_suppressed_and_told_again(desk: Desk) -> None:
    phone = new_phone()
    await desk.hear(message(desk.device, phone))
    async with desk.ledger.sessions.begin() as session:
        (await session.get_one(Suppression, (await desk.suppressions())[0].id)).lifted_at = after(60)

    await desk.hear(message(desk.device, phone, whatsapp_id="wa-2", at=after(120)), at=after(120))

    assert [row.lifted_at is None for row in await desk.suppressions()] == [False, True]
    assert len(await desk.confirmations()) == 2


async def test_without_a_text_nothing_is_confirmed(desk: Desk) -> None:
    await desk.ledger.change(desk.user, opt_out_reply="")

    assert await desk.hear(message(desk.device, new_phone())) == set()

    assert [row.confirmed_at for row in await desk.suppressions()] == [None]
    assert not await desk.confirmations()


async def test_a_deleted_device_answers_nothing(desk: Desk) -> None:
    await desk.ledger.change(desk.device, deleted_at=NOW, is_active=False)

    await desk.hear(message(desk.device, new_phone()))

    assert len(await desk.suppressions()) == 1
    assert not await desk.confirmations()


async def test_the_users_own_words_count_and_the_usual_ones_no_more(desk: Desk) -> None:
    await desk.ledger.change(desk.user, opt_out_words=["Tak nak"])
    leaver, talker = new_phone(), new_phone()

    await desk.hear(message(desk.device, leaver, "tak nak."), message(desk.device, talker, "STOP"))

    assert [(row.phone, row.reason) for row in await desk.suppressions()] == [(leaver, "Tak nak")]


async def test_only_contacts_in_personal_chats_opt_out(desk: Desk) -> None:
    event = message(desk.device, new_phone())
    ignored = [
        replace(event, is_personal=False, whatsapp_id="wa-2"),
        replace(event, from_me=True, whatsapp_id="wa-3"),
        replace(event, sender=desk.device.phone, whatsapp_id="wa-4"),
        replace(event, sender="status", whatsapp_id="wa-5"),
        replace(event, sender="1203", whatsapp_id="wa-6"),
        replace(event, device_id=UUID(int=7), whatsapp_id="wa-7"),
    ]

    assert await desk.hear(*ignored) == set()

    assert not await desk.suppressions()
    async with desk.ledger.sessions() as session:
        assert not list(await session.scalars(select(IncomingMessage)))


async def test_an_opt_out_is_that_of_the_devices_owner_and_of_nobody_else(desk: Desk) -> None:
    phone = new_phone()
    async with desk.ledger.sessions.begin() as session:
        stranger = await add_user(session)
        theirs = await add_device(session, stranger, desk.ledger.host)
        campaign = await add_campaign(session, stranger)
        await add_messages(session, campaign, theirs, [phone], status=MessageStatus.SENT, sent_at=NOW)

    await desk.hear(message(theirs, phone))

    assert not await desk.suppressions()
    [row] = await desk.suppressions(stranger)
    assert (row.device_id, row.campaign_id) == (theirs.id, campaign.id)
    assert not await desk.confirmations(), "the stranger has set no text"


async def test_the_campaign_of_another_user_is_never_named(desk: Desk) -> None:
    phone = new_phone()
    async with desk.ledger.sessions.begin() as session:
        stranger = await add_user(session)
        theirs = await add_device(session, stranger, desk.ledger.host)
        campaign = await add_campaign(session, stranger)
        await add_messages(session, campaign, theirs, [phone], status=MessageStatus.SENT, sent_at=NOW)

    await desk.hear(message(desk.device, phone))

    assert [row.campaign_id for row in await desk.suppressions()] == [None]


async def test_many_messages_in_one_batch_are_each_dealt_with(desk: Desk) -> None:
    second = await desk.ledger.device()
    leavers = [new_phone() for _ in range(3)]
    events = [message(desk.device, phone) for phone in leavers]
    events += [message(second, leavers[0]), message(second, new_phone(), "Hello")]

    woken = await desk.hear(*events)

    assert desk.device.id in woken
    assert sorted(row.phone for row in await desk.suppressions()) == sorted(leavers)
    assert sorted(row.recipient_phone for row in await desk.confirmations()) == sorted(leavers)


async def test_a_lead_shows_when_it_was_last_heard_of(desk: Desk) -> None:
    async with desk.ledger.sessions.begin() as session:
        lead = await add_lead(session, desk.user)
        namesake = await add_lead(session, await add_user(session), phone=lead.phone)

    await desk.hear(message(desk.device, lead.phone, "Hi", whatsapp_id="wa-1", at=after(-60)))
    await desk.hear(message(desk.device, lead.phone, "Hello?", whatsapp_id="wa-2", at=after(-90)))

    async with desk.ledger.sessions() as session:
        assert (await session.get_one(Lead, lead.id)).last_interaction == after(-60)
        assert (await session.get_one(Lead, namesake.id)).last_interaction is None


async def test_a_message_from_the_future_is_of_now(desk: Desk) -> None:
    async with desk.ledger.sessions.begin() as session:
        lead = await add_lead(session, desk.user)

    await desk.hear(message(desk.device, lead.phone, "Hi", at=after(86400)))

    async with desk.ledger.sessions() as session:
        assert (await session.get_one(Lead, lead.id)).last_interaction == NOW


async def test_replies_are_counted_once_per_contact_and_local_day(desk: Desk) -> None:
    one, other, unknown = new_phone(), new_phone(), new_phone()
    for phone in (one, other):
        await desk.sent(phone, at=after(-86400))
    before_midnight = datetime(2026, 3, 1, 15, 59, tzinfo=UTC)
    after_midnight = datetime(2026, 3, 1, 16, 1, tzinfo=UTC)

    await desk.hear(
        message(desk.device, one, "Hi", whatsapp_id="1", at=before_midnight),
        message(desk.device, one, "Hello", whatsapp_id="2", at=before_midnight),
        message(desk.device, one, "Hi again", whatsapp_id="3", at=after_midnight),
        message(desk.device, other, "Hi", whatsapp_id="4", at=after_midnight),
        message(desk.device, unknown, "Who are you?", whatsapp_id="5", at=after_midnight),
    )
    await desk.hear(message(desk.device, other, "And?", whatsapp_id="6", at=after_midnight))

    assert await desk.replied() == {date(2026, 3, 1): 1, date(2026, 3, 2): 2}


async def test_who_wrote_first_counts_as_a_reply_once_they_have_been_answered(desk: Desk) -> None:
    phone = new_phone()
    await desk.hear(message(desk.device, phone, "How much?", whatsapp_id="1"))
    assert await desk.replied() == {}
    await desk.sent(phone)

    await desk.hear(message(desk.device, phone, "Thanks", whatsapp_id="2"))

    assert await desk.replied() == {date(2026, 3, 2): 1}


async def test_a_message_with_what_no_column_holds_is_taken_in_all_the_same(desk: Desk) -> None:
    await desk.hear(message(desk.device, new_phone(), "STOP\0", whatsapp_id="wa\0"))

    assert len(await desk.suppressions()) == 1


async def test_a_number_that_the_library_does_not_know_is_kept_as_it_is(desk: Desk) -> None:
    await desk.hear(message(desk.device, "99912345678"))

    assert [row.phone for row in await desk.suppressions()] == ["99912345678"]


async def test_traces_of_messages_are_forgotten_when_they_cannot_come_again(desk: Desk) -> None:
    await desk.hear(message(desk.device, new_phone(), "old", whatsapp_id="old", at=NOW - timedelta(days=3)))
    await desk.hear(message(desk.device, new_phone(), "new", whatsapp_id="new"))

    async with desk.ledger.sessions.begin() as session:
        await forget_incoming(session, NOW - timedelta(days=2) + KEPT)

    async with desk.ledger.sessions() as session:
        assert [row.whatsapp_id for row in await session.scalars(select(IncomingMessage))] == ["new"]
