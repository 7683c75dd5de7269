"""Opting out, end to end: a contact replies, later messages are held back, and the confirmation arrives once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, update
from temporalio.client import Client

from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, CampaignStatus, Device, DeviceStatus, MessageStatus, Suppression, User
from siaran.settings import Settings
from tests.factories import add_campaign, add_device, add_messages, add_user
from tests.workflows.house import House, open_house

ANSWER = "You will hear from us no more."


@pytest.fixture
async def house(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> AsyncIterator[House]:
    """Two devices that wait for nothing after a message, five leads, and a text that confirms opt-outs."""
    async with open_house(settings, sessions, redis, temporal_client, devices=2, leads=5) as house:
        async with sessions.begin() as session:
            await session.execute(update(Device).values(min_delay_seconds=0, max_delay_seconds=0))
            await session.execute(update(User).values(opt_out_reply=ANSWER))
        yield house


async def suppressed(house: House, user: User) -> list[str]:
    async with house.resources.sessions() as session:
        rows = await session.scalars(select(Suppression).where(Suppression.user_id == user.id, Suppression.lifted_at.is_(None)))
        return [row.phone for row in rows]


async def confirmations(house: House) -> list[BroadcastMessage]:
    async with house.resources.sessions() as session:
        return list(await session.scalars(select(BroadcastMessage).where(BroadcastMessage.ignores_opt_out)))


async def arrived(house: House) -> list[BroadcastMessage]:
    """The confirmations, once each has arrived at its contact."""
    async with asyncio.timeout(30):
        while True:
            rows = await confirmations(house)
            if rows and all(row.status in {MessageStatus.DELIVERED, MessageStatus.READ} for row in rows):
                return rows
            await asyncio.sleep(0.05)


async def until_suppressed(house: House, user: User, phone: str) -> None:
    async with asyncio.timeout(30):
        while phone not in await suppressed(house, user):  # noqa: ASYNC110 -- the host writes it
            await asyncio.sleep(0.05)


async def device_that_wrote_to(house: House, phone: str) -> Device:
    transmissions = [one async for one in house.network.transmissions() if one.to == phone]
    [device] = [device for device in house.devices if device.id == transmissions[0].device_id]
    return device


async def test_who_replies_stop_gets_a_confirmation_and_nothing_more(house: House) -> None:
    leaver = house.leads[0].phone
    first = await house.campaign()
    assert await house.end_of(first) == "sent: 5 messages ended"
    device = await device_that_wrote_to(house, leaver)

    await house.network.reply(device.id, leaver, "stop")
    [confirmation] = await arrived(house)
    await house.network.reply(device.id, leaver, "Stop!!")
    second = await house.campaign()
    assert await house.end_of(second) == "sent: 5 messages ended"

    assert await suppressed(house, house.ledger.user) == [leaver]
    assert (confirmation.recipient_phone, confirmation.device_id) == (leaver, device.id)
    counts = await house.ledger.counts(second)
    assert (counts["suppressed"], counts.get("sent", 0) + counts.get("delivered", 0)) == (1, 4)
    received = [one.to async for one in house.network.transmissions()]
    assert {phone: received.count(phone) for phone in set(received)} == {lead.phone: 2 for lead in house.leads}
    assert len(await confirmations(house)) == 1
    async with house.resources.sessions() as session:
        [row] = await session.scalars(select(Suppression))
    assert (row.campaign_id, row.device_id, row.source) == (first.id, device.id, "reply")
    await house.ledger.check()


async def test_contacts_who_reply_stop_by_themselves_are_each_confirmed_once(house: House) -> None:
    await house.network.configure(reply_rate=1, opt_out_rate=1, reply_seconds=(0, 0.1))
    campaign = await house.campaign()
    assert await house.end_of(campaign) == "sent: 5 messages ended"

    phones = sorted(lead.phone for lead in house.leads)
    async with asyncio.timeout(30):
        while len(await confirmations(house)) < 5:  # noqa: ASYNC110 -- the host writes them
            await asyncio.sleep(0.05)
    rows = await arrived(house)

    assert sorted(row.recipient_phone for row in rows) == phones
    assert sorted(await suppressed(house, house.ledger.user)) == phones
    received = [one.to async for one in house.network.transmissions()]
    assert {phone: received.count(phone) for phone in phones} == dict.fromkeys(phones, 2)


async def test_a_confirmation_goes_out_in_quiet_hours_and_to_who_has_had_enough(house: House) -> None:
    leaver, *others = house.leads
    campaign = await house.campaign()
    assert await house.end_of(campaign) == "sent: 5 messages ended"
    device = await device_that_wrote_to(house, leaver.phone)
    another_day = (system_clock() + timedelta(days=3)).isoweekday()
    closed = {"timezone": "UTC", "sending_weekdays": [another_day], "contact_limit": 1}
    async with house.resources.sessions.begin() as session:
        await session.execute(update(User).values(**closed))

    await house.network.reply(device.id, leaver.phone, "STOP")
    [confirmation] = await arrived(house)

    assert confirmation.recipient_phone == leaver.phone
    received = [one.to async for one in house.network.transmissions()]
    assert {phone: received.count(phone) for phone in set(received)} == {leaver.phone: 2, **{lead.phone: 1 for lead in others}}


async def test_an_opt_out_from_another_user_is_none_from_this_one(house: House) -> None:
    phone = house.leads[0].phone
    async with house.resources.sessions.begin() as session:
        stranger = await add_user(session)
        theirs = await add_device(session, stranger, house.ledger.host, status=DeviceStatus.CONNECTING)
        ref = (await house.network.link(theirs.id, theirs.phone)).ref
        theirs.jid, theirs.link_generation = ref.jid, ref.link_generation
        campaign = await add_campaign(session, stranger, status=CampaignStatus.PAUSED)
        await add_messages(session, campaign, theirs, [phone])
    await house.online()

    await house.network.reply(theirs.id, phone, "BERHENTI")
    await until_suppressed(house, stranger, phone)

    assert await suppressed(house, house.ledger.user) == []
    own = await house.campaign()
    assert await house.end_of(own) == "sent: 5 messages ended"
    assert "suppressed" not in await house.ledger.counts(own)
    assert await confirmations(house) == [], "the other user has set no text"
