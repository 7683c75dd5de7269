"""Automatic replies: one to who writes, none to oneself, to groups, to who opted out, and none again for a quiet period."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from siaran.gateway.interface import Incoming, ReceivedMedia
from siaran.incoming import take_in
from siaran.models import ONE_OFF, BroadcastMessage, Device, MessageStatus, Suppression, User
from tests.factories import NOW, add_device, add_lead, add_user, after, new_phone
from tests.ledger.driver import Ledger, record_of

REPLY = "We are closed until Monday."
DEFAULT = "Thank you for your message."


class Desk:
    """One user with a device that answers."""

    def __init__(self, ledger: Ledger, device: Device) -> None:
        self.ledger = ledger
        self.device = device
        self.count = 0

    def message(self, phone: str, text: str = "Are you open?", *, at: datetime = NOW, device: Device | None = None) -> Incoming:
        """Another message of a contact."""
        self.count += 1
        return Incoming((device or self.device).id, phone, text, f"wa-{self.count}", at)

    async def hear(self, *events: Incoming, at: datetime = NOW, default: str = "") -> set[UUID]:
        """Take messages in, in one transaction."""
        async with self.ledger.sessions.begin() as session:
            return await take_in(session, events, at, auto_reply=default)

    async def replies(self) -> Sequence[BroadcastMessage]:
        query = select(BroadcastMessage).where(~BroadcastMessage.ignores_opt_out).order_by(BroadcastMessage.id)
        async with self.ledger.sessions() as session:
            return list(await session.scalars(query))

    async def send(self, at: datetime = NOW) -> None:
        """Send the reply that waits."""
        claim = await self.ledger.claimed(self.device, at=at)
        await self.ledger.record(record_of(claim, at=at))


@pytest.fixture
async def desk(ledger: Ledger) -> Desk:
    await ledger.change(ledger.user, auto_reply=REPLY, auto_reply_minutes=60)
    return Desk(ledger, await ledger.device())


async def test_who_writes_is_answered_ahead_of_campaigns(desk: Desk) -> None:
    phone = new_phone()

    assert await desk.hear(desk.message(phone)) == {desk.device.id}

    [row] = await desk.replies()
    assert (row.source, row.device_id, row.recipient_phone, row.user_id) == (
        ONE_OFF,
        desk.device.id,
        phone,
        desk.device.user_id,
    )
    assert (row.content, row.message_type, row.status, row.scheduled_at) == (REPLY, "text", MessageStatus.PENDING, NOW)
    claim = await desk.ledger.claimed(desk.device)
    assert (claim.message_id, claim.content, claim.is_suppressed) == (row.id, REPLY, False)


async def test_a_lead_is_answered_by_name_in_the_ledger(desk: Desk) -> None:
    async with desk.ledger.sessions.begin() as session:
        lead = await add_lead(session, desk.ledger.user, name="Siti")
    await desk.hear(desk.message(lead.phone))
    assert [row.recipient_name for row in await desk.replies()] == ["Siti"]


async def test_a_file_without_a_text_is_answered_and_an_empty_message_is_not(desk: Desk) -> None:
    photo = ReceivedMedia("image", "image/jpeg", "", 10, b"")
    sender = new_phone()
    await desk.hear(replace(desk.message(sender, ""), media=photo), desk.message(new_phone(), " "))
    assert [row.recipient_phone for row in await desk.replies()] == [sender]


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [(None, DEFAULT, [DEFAULT]), (None, " ", []), ("", DEFAULT, []), (REPLY, DEFAULT, [REPLY])],
)
async def test_a_users_own_text_counts_before_that_of_the_installation(
    desk: Desk, own: str | None, default: str, expected: list[str]
) -> None:
    await desk.ledger.change(desk.ledger.user, auto_reply=own)
    await desk.hear(desk.message(new_phone()), default=default)
    assert [row.content for row in await desk.replies()] == expected


async def test_a_contact_gets_no_second_reply_within_the_quiet_period(desk: Desk) -> None:
    phone = new_phone()
    await desk.hear(desk.message(phone), desk.message(phone))
    await desk.send()
    minutes = [10, 59]
    for minute in minutes:
        at = after(minute * 60)
        assert await desk.hear(desk.message(phone, at=at), at=at) == set()
    assert len(await desk.replies()) == 1

    at = after(61 * 60)
    await desk.hear(desk.message(phone, at=at), at=at)

    assert len(await desk.replies()) == 2


async def test_a_reply_that_is_late_is_not_followed_by_another_one(desk: Desk) -> None:
    phone = new_phone()
    await desk.hear(desk.message(phone))
    at = after(2 * 3600)
    await desk.hear(desk.message(phone, at=at), at=at)
    assert len(await desk.replies()) == 1, "the first one still waits"
    await desk.send(at=at)

    soon, later = after(2 * 3600 + 600), after(3 * 3600 + 600)
    await desk.hear(desk.message(phone, at=soon), at=soon)
    assert len(await desk.replies()) == 1, "it was sent ten minutes ago"
    await desk.hear(desk.message(phone, at=later), at=later)
    assert len(await desk.replies()) == 2


async def test_two_devices_and_hosts_that_hear_at_once_answer_once(desk: Desk) -> None:
    other = await desk.ledger.device()
    phone = new_phone()
    events = [desk.message(phone, device=device) for device in (desk.device, other) * 4]

    woken = await asyncio.gather(*(desk.hear(event) for event in events))

    assert len(await desk.replies()) == 1
    assert sum(map(len, woken)) == 1


async def test_the_same_message_delivered_again_is_not_answered_again(desk: Desk) -> None:
    event = desk.message(new_phone())
    await desk.hear(event)
    at = after(7200)
    await desk.send()
    assert await desk.hear(replace(event, at=at), at=at) == set()
    assert len(await desk.replies()) == 1


async def test_nobody_is_answered_in_groups_nor_oneself(desk: Desk) -> None:
    phone = new_phone()
    other = await desk.ledger.device()
    await desk.hear(
        replace(desk.message(phone), is_personal=False, chat="1203@g.us"),
        replace(desk.message(phone), from_me=True),
        desk.message(desk.device.phone),
        # Both of these would answer each other for ever.
        desk.message(other.phone),
    )
    assert await desk.replies() == []


async def test_who_opts_out_or_has_opted_out_is_not_answered(desk: Desk) -> None:
    phone, leaver = new_phone(), new_phone()
    async with desk.ledger.sessions.begin() as session:
        session.add(Suppression(user_id=desk.ledger.user.id, phone=phone, reason="by hand"))
    await desk.hear(desk.message(phone), desk.message(leaver, "STOP"))
    await desk.hear(desk.message(leaver, "Really, stop it please"))
    assert await desk.replies() == []


async def test_an_old_message_is_not_answered(desk: Desk) -> None:
    await desk.hear(desk.message(new_phone(), at=NOW - timedelta(minutes=61)))
    assert await desk.replies() == []
    fresh = new_phone()
    await desk.hear(desk.message(fresh, at=NOW - timedelta(minutes=59)))
    assert [row.recipient_phone for row in await desk.replies()] == [fresh]


async def test_the_latest_message_says_which_device_answers(desk: Desk) -> None:
    other = await desk.ledger.device()
    phone = new_phone()
    earlier = desk.message(phone, at=NOW - timedelta(minutes=5))
    assert await desk.hear(desk.message(phone, device=other), earlier) == {other.id}
    assert [row.device_id for row in await desk.replies()] == [other.id]


async def test_users_answer_the_same_contact_each_for_themselves(desk: Desk) -> None:
    async with desk.ledger.sessions.begin() as session:
        stranger: User = await add_user(session, auto_reply="Hello")
        theirs = await add_device(session, stranger, desk.ledger.host)
    phone = new_phone()
    await desk.hear(desk.message(phone), desk.message(phone, device=theirs))
    assert {(row.user_id, row.content) for row in await desk.replies()} == {
        (desk.ledger.user.id, REPLY), (stranger.id, "Hello"),
    }  # fmt: skip


async def test_a_removed_device_and_a_deactivated_user_answer_nobody(desk: Desk) -> None:
    await desk.ledger.change(desk.device, deleted_at=NOW)
    await desk.hear(desk.message(new_phone()))
    await desk.ledger.change(desk.device, deleted_at=None)
    await desk.ledger.change(desk.ledger.user, is_active=False)
    await desk.hear(desk.message(new_phone()))
    assert await desk.replies() == []
