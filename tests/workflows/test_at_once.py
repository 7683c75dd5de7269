"""Sending at once, end to end on the simulated network: every kind of message, broadcasts, and replies that nobody typed."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from temporalio.client import Client

from siaran.broadcasts import NewBroadcast, count_messages, queue_broadcast
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.gateway.interface import MessageType
from siaran.lanes import wake_lanes
from siaran.message_contents import ContactCard, Content, Location, Poll
from siaran.models import BroadcastMessage, IncomingMessage, MessageStatus
from siaran.one_off import MessageNow, OneOff, queue_one_off, wait_for_end
from siaran.settings import Settings
from tests.factories import new_phone
from tests.waiting import eventually
from tests.workflows.house import House, open_house

SENT = {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ}
REPLY = "We are back on Monday."


@pytest.fixture
async def house(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> AsyncIterator[House]:
    """One device online that answers automatically and hardly pauses."""
    settings = settings.model_copy(update={"auto_reply": REPLY})
    async with open_house(settings, sessions, redis, temporal_client, devices=1, leads=0) as house:
        await house.ledger.change(house.devices[0], min_delay_seconds=0, max_delay_seconds=0)
        yield house


async def send(house: House, wanted: OneOff) -> MessageNow:
    use, user = house.resources, house.ledger.user
    async with use.sessions.begin() as session:
        message = await queue_one_off(session, user.id, wanted, country="MY", now=system_clock())
    await wake_lanes(use.sessions, use.client, use.redis, [message.device_id])
    return await wait_for_end(use.sessions, user.id, message.id, seconds=20)


CONTENTS: list[tuple[MessageType, Content]] = [
    (MessageType.LOCATION, Location(latitude=3.1, longitude=101.7)),
    (MessageType.CONTACT, ContactCard(name="Siti", phone="60123456789")),
    (MessageType.POLL, Poll(question="When?", options=("Mon", "Tue"))),
]


async def test_places_contacts_and_polls_are_transmitted(house: House) -> None:
    for kind, content in CONTENTS:
        found = await send(house, OneOff(phone=f"+{new_phone()}", text=content.model_dump_json(), message_type=kind))
        assert found.message.status in SENT, found.message.error_message
    assert [sent.type async for sent in house.network.transmissions()] == [kind for kind, _ in CONTENTS]


async def test_a_broadcast_reaches_everyone_on_the_list_once(house: House) -> None:
    use, user = house.resources, house.ledger.user
    phones = [new_phone() for _ in range(5)]
    wanted = NewBroadcast(phones=tuple(f"+{phone}" for phone in [*phones, phones[0]]), text="Hi {{name|friend}}")
    async with use.sessions.begin() as session:
        broadcast, _ = await queue_broadcast(session, user.id, wanted, country="MY", now=system_clock())
    await wake_lanes(use.sessions, use.client, use.redis, [broadcast.device_id])

    async def is_over() -> bool:
        async with use.sessions() as session:
            counts = await count_messages(session, broadcast)
        return sum(counts.values()) == sum(counts.get(status, 0) for status in SENT)

    await eventually(is_over, within=30)
    assert Counter([sent.to async for sent in house.network.transmissions()]) == Counter(phones)


async def test_a_contact_who_keeps_writing_is_answered_once(house: House) -> None:
    await house.network.configure(reply_rate=1, reply_seconds=(0, 0.1))
    phone = new_phone()
    await send(house, OneOff(phone=f"+{phone}", text="Hi"))

    async def has_written_twice() -> bool:
        # In answer to the message, and to the automatic reply.
        async with house.resources.sessions() as session:
            return await session.scalar(select(func.count()).select_from(IncomingMessage)) == 2

    await eventually(has_written_twice, within=30)
    async with house.resources.sessions() as session:
        rows = (await session.scalars(select(BroadcastMessage).order_by(BroadcastMessage.id))).all()
    assert [(row.content, row.recipient_phone) for row in rows] == [("Hi", phone), (REPLY, phone)]
    assert [sent.to async for sent in house.network.transmissions()] == [phone, phone]
