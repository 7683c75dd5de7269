"""A sequence of seven days with the real activities, ledger, host and network, while one clock is set forward."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta
from itertools import pairwise

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, update

from siaran.db import SessionMaker
from siaran.models import BroadcastMessage, CampaignStatus, EnrollmentStatus, MessageStatus, User
from siaran.schedule import to_instant, zone_of
from siaran.settings import Settings
from tests.workflows.house import open_house
from tests.workflows.skipped_time import BEGIN, ZONE, Days
from tests.workflows.walks import Walks

TIMES = {1: time(9), 2: time(9, 30), 3: None, 4: time(18), 5: time(2, 30), 6: time(23, 59), 7: time(0, 1)}
SCHEDULE = time(12)


@pytest.fixture
async def walks(settings: Settings, sessions: SessionMaker, redis: Redis, days: Days) -> AsyncIterator[Walks]:
    """Three devices online on the clock that is set forward."""
    async with open_house(settings, sessions, redis, days.client, devices=3, leads=0, clock=days.clock) as house:
        async with sessions.begin() as session:
            await session.execute(update(User).values(timezone=ZONE))
        house.ledger.user.timezone = ZONE
        yield Walks(house, days)


def expected(first: date) -> list[tuple[int, datetime]]:
    """What a contact gets whose Day 1 is that date: the clocks skip 02:30 on one of these nights."""
    found = []
    for day, own in TIMES.items():
        on = first + timedelta(days=day - 1)
        local = to_instant(on, own or SCHEDULE, ZONE).astimezone(zone_of(ZONE))
        found.append((day, local.replace(tzinfo=None)))
    return found


def minutes(walk: list[tuple[int, datetime]]) -> list[tuple[int, datetime]]:
    return [(day, at.replace(second=0, microsecond=0)) for day, at in walk]


async def test_contacts_enrolled_on_different_days_get_every_step_once_at_its_local_time(walks: Walks) -> None:
    sequence = await walks.sequence(TIMES, time_schedule=SCHEDULE)
    early = await walks.enroll(sequence, 4)
    await walks.until(to_instant(BEGIN, time(10), ZONE))
    late = await walks.enroll(sequence, 3)
    await walks.until(to_instant(BEGIN + timedelta(days=2), time(8), ZONE))
    last = await walks.enroll(sequence, 3)
    await walks.until()

    received = await walks.sent(sequence)
    for leads, first in ((early, 0), (late, 1), (last, 2)):
        for lead in leads:
            assert minutes(received[lead.phone]) == expected(BEGIN + timedelta(days=first))
    assert await walks.walks(sequence) == {EnrollmentStatus.COMPLETED: 10}
    assert set(await walks.statuses(sequence)) <= {MessageStatus.SENT, MessageStatus.DELIVERED}
    await walks.house.ledger.check()


async def test_a_pause_puts_everyone_off_by_whole_days_and_sends_no_burst(walks: Walks) -> None:
    sequence = await walks.sequence({1: time(9), 2: time(9), 3: time(9)})
    [lead] = await walks.enroll(sequence, 1)
    await walks.until(to_instant(BEGIN, time(12), ZONE))
    await walks.pause(sequence)
    await walks.skip(timedelta(days=3))
    await walks.resume(sequence)
    await walks.until()

    received = (await walks.sent(sequence))[lead.phone]
    assert [(day, at.date(), at.time().replace(second=0, microsecond=0)) for day, at in received] == [
        (1, BEGIN, time(9)),
        (2, BEGIN + timedelta(days=4), time(9)),
        (3, BEGIN + timedelta(days=5), time(9)),
    ]


async def test_a_step_that_failed_is_sent_again_by_a_signal_after_the_walk_has_ended(walks: Walks) -> None:
    sequence = await walks.sequence({1: time(9)})
    [lead] = await walks.enroll(sequence, 1)
    await walks.house.network.configure(failure_rate=1, failure_codes={"server_error_500": 1})
    await walks.until()
    assert await walks.walks(sequence) == {EnrollmentStatus.COMPLETED: 1}
    assert await walks.sent(sequence) == {}
    await walks.house.network.configure(failure_rate=0)

    assert await walks.retry(sequence) == 1
    async with asyncio.timeout(20):
        while lead.phone not in await walks.sent(sequence):  # noqa: ASYNC110 -- the host sends it
            await asyncio.sleep(0.05)

    assert [day for day, _ in (await walks.sent(sequence))[lead.phone]] == [1]
    assert await walks.walks(sequence) == {EnrollmentStatus.COMPLETED: 1}
    await walks.settle()
    await walks.house.ledger.check()


async def test_a_campaign_and_a_sequence_share_a_device_in_turns(walks: Walks) -> None:
    """Each with its own gap; neither waits for the other to be through."""
    for device in walks.house.devices[1:]:
        await walks.house.ledger.change(device, is_active=False)
    device = walks.house.devices[0]
    sequence = await walks.sequence({1: time(8)})
    await walks.enroll(sequence, 12)
    campaign = await walks.house.ledger.campaign(status=CampaignStatus.PAUSED)
    await walks.house.ledger.messages(campaign, device, 12)
    await walks.house.ledger.change(campaign, status=CampaignStatus.SENDING)
    await walks.until(to_instant(BEGIN, time(8, 30), ZONE))
    async with asyncio.timeout(30):
        while await walks.house.network.transmitted() < 24:  # noqa: ASYNC110 -- the host sends them
            await asyncio.sleep(0.05)

    async with walks.use.sessions() as session:
        query = select(BroadcastMessage.source).where(BroadcastMessage.device_id == device.id)
        order = (await session.scalars(query.order_by(BroadcastMessage.claimed_at, BroadcastMessage.id))).all()
    kinds = [source.partition(":")[0] for source in order]
    both = kinds[kinds.index("sequence") : len(kinds) - kinds[::-1].index("campaign")]
    assert all(one != other for one, other in pairwise(both)), kinds
