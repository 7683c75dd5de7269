"""A sequence of seven days with the real activities, ledger, host and network, while one clock is set forward."""

from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from siaran.db import SessionMaker
from siaran.models import EnrollmentStatus, MessageStatus, SequenceStatus, User
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
    await walks.house.ledger.change(sequence, status=SequenceStatus.PAUSED)
    await walks.skip(timedelta(days=3))
    await walks.house.ledger.change(sequence, status=SequenceStatus.ACTIVE, resumed_at=walks.now)
    contact = await walks.contact(lead)
    await walks.house.ledger.change(contact, wanted_at=walks.now)
    await walks.nudge(sequence)
    await walks.until()

    received = (await walks.sent(sequence))[lead.phone]
    assert [(day, at.date(), at.time().replace(second=0, microsecond=0)) for day, at in received] == [
        (1, BEGIN, time(9)),
        (2, BEGIN + timedelta(days=4), time(9)),
        (3, BEGIN + timedelta(days=5), time(9)),
    ]
