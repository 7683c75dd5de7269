"""What preflight says against what the real send path then does, on clocks that jump from one message to the next."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import datetime, time, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from temporalio.client import Client

from activities.audience import expand_page
from activities.sending import RETURN_AHEAD
from siaran.contracts import CampaignInput, LaneAction, LaneCheck, SendInput, SliceEnd
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.lane_standing import lane_standing, plan_lane
from siaran.models import AttemptOutcome, BroadcastMessage, Campaign, Device, MessageAttempt, MessageStatus
from siaran.preflight import Preflight, check_before_start
from siaran.settings import Settings
from tests.activities.conftest import HandClock
from tests.factories import NOW, add_lead
from tests.ledger.driver import Ledger
from worker.host import Host


class Fleet:
    """Connected devices, each at a host whose clock is its own: between devices nothing has to happen in order."""

    def __init__(
        self, ledger: Ledger, network: SimulatedNetwork, transport: SimulatedTransport, settings: Settings, use: Any
    ) -> None:
        self.ledger = ledger
        self.network = network
        self.transport = transport
        self.settings = settings.model_copy(update={"send_window": 0})
        self.use = use
        self.hosts: list[tuple[Device, Host, HandClock]] = []

    async def add_device(self, **columns: Any) -> Device:
        """A device that is linked and connected."""
        device = await self.ledger.device(**columns)
        ref = (await self.network.link(device.id, device.phone)).ref
        device.jid, device.link_generation = ref.jid, ref.link_generation
        await self.ledger.change(device)
        await self.transport.connect(ref)
        clock = HandClock()
        host = Host(
            self.ledger.host.id,
            settings=self.settings,
            sessions=self.ledger.sessions,
            transport=self.transport,
            clock=clock,
            **self.use,
        )
        # Nobody else's commits are worth waiting for.
        host._claims._interval = host._records._interval = 0.0
        self.hosts.append((device, host, clock))
        return device

    async def add_leads(self, count: int) -> None:
        """People to write to."""
        async with self.ledger.sessions.begin() as session:
            for _ in range(count):
                await add_lead(session, self.ledger.user)

    async def check(self, campaign: Campaign) -> Preflight:
        """What is said before the start."""
        async with self.ledger.sessions() as session:
            return await check_before_start(session, campaign, NOW)

    async def send(self, campaign: Campaign) -> datetime:
        """Write the campaign's messages and send all that is pending; returns when the last of the campaign began."""
        async with self.ledger.sessions.begin() as session:
            await expand_page(session, CampaignInput(campaign.id, campaign.user_id), NOW)
        await asyncio.gather(*(self._run_lane(*place) for place in self.hosts))
        began = (
            select(func.max(MessageAttempt.attempted_at), func.count())
            .join(BroadcastMessage, BroadcastMessage.id == MessageAttempt.message_id)
            .where(BroadcastMessage.campaign_id == campaign.id, BroadcastMessage.status == MessageStatus.SENT)
        )
        async with self.ledger.sessions() as session:
            last_at, sent = (await session.execute(began)).one()
        assert sent == (await self.ledger.counts(campaign))["sent"]
        assert isinstance(last_at, datetime)
        return last_at

    async def _run_lane(self, device: Device, host: Host, clock: HandClock) -> None:
        """What a device's workflow does, without its timers."""
        while True:
            result = await host._sends.send(SendInput(device.id, device.user_id))
            if result.ended is SliceEnd.WINDOW:
                assert result.next_at is not None
                clock.now = max(clock.now, result.next_at + RETURN_AHEAD)
                continue
            async with self.ledger.sessions() as session:
                standing = await lane_standing(session, device.user_id, device.id, clock.now)
            check = LaneCheck(device.id, device.user_id, result.ended, result.next_at)
            plan = plan_lane(standing, check, clock.now, timedelta(minutes=1))
            if plan.action is LaneAction.END:
                return
            assert plan.action is LaneAction.WAIT, (plan, result)
            assert plan.until_at is not None
            assert plan.until_at > clock.now
            clock.now = plan.until_at + (RETURN_AHEAD if result.ended is SliceEnd.CAP else timedelta(0))


@pytest.fixture
async def fleet(
    ledger: Ledger, network: SimulatedNetwork, network_url: str, settings: Settings, redis: Redis, temporal_client: Client
) -> AsyncIterator[Fleet]:
    """A user without devices and leads; the delays are drawn alike in every run."""
    random.seed(7)
    transport = SimulatedTransport(network_url)
    await transport.open()
    fleet = Fleet(ledger, network, transport, settings, {"redis": redis, "client": temporal_client})
    yield fleet
    await asyncio.gather(*(host._drain() for _, host, _ in fleet.hosts))
    await transport.close()


async def compare(fleet: Fleet, campaign: Campaign) -> timedelta:
    """Check that the estimate is right within 10 %; returns how long the campaign took."""
    said = (await fleet.check(campaign)).duration
    took = await fleet.send(campaign) - NOW
    assert said is not None
    assert said == pytest.approx(took, rel=0.1), f"said {said}, took {took}"
    return took


async def campaign_of(fleet: Fleet, low: int, high: int) -> Campaign:
    """A campaign that starts now."""
    return await fleet.ledger.campaign(expanded_at=None, min_delay_seconds=low, max_delay_seconds=high)


async def test_where_only_the_delays_count(fleet: Fleet) -> None:
    for _ in range(3):
        await fleet.add_device()
    await fleet.add_leads(150)

    took = await compare(fleet, await campaign_of(fleet, 10, 30))

    assert took > timedelta(minutes=14)


async def test_where_the_cap_of_a_minute_binds(fleet: Fleet) -> None:
    for _ in range(2):
        await fleet.add_device(max_per_minute=5)
    await fleet.add_leads(90)

    assert await compare(fleet, await campaign_of(fleet, 1, 4)) > timedelta(minutes=7)


async def test_where_delays_and_the_cap_of_a_minute_compete(fleet: Fleet) -> None:
    await fleet.add_device(max_per_minute=4)
    await fleet.add_leads(80)

    assert await compare(fleet, await campaign_of(fleet, 0, 30)) > timedelta(minutes=19)


async def test_where_the_cap_of_an_hour_binds_and_some_of_it_is_used_up(fleet: Fleet) -> None:
    device = await fleet.add_device(max_per_hour=20)
    earlier = await fleet.ledger.campaign()
    sent = await fleet.ledger.messages(earlier, device, 15, status=MessageStatus.SENT)
    async with fleet.ledger.sessions.begin() as session:
        session.add_all(
            MessageAttempt(
                message_id=message_id,
                attempt=1,
                user_id=device.user_id,
                device_id=device.id,
                host_id=fleet.ledger.host.id,
                link_generation=1,
                outcome=AttemptOutcome.SENT,
                content="Hi",
                attempted_at=NOW - timedelta(minutes=40 - place),
            )
            for place, message_id in enumerate(sent)
        )
    await fleet.add_leads(70)

    assert await compare(fleet, await campaign_of(fleet, 5, 15)) > timedelta(hours=3)


async def test_where_quiet_hours_lie_in_between(fleet: Fleet) -> None:
    # In Kuala Lumpur it is 09:00.
    await fleet.ledger.change(fleet.ledger.user, quiet_from=time(9, 10), quiet_until=time(11))
    for _ in range(2):
        await fleet.add_device()
    await fleet.add_leads(120)

    assert await compare(fleet, await campaign_of(fleet, 10, 30)) > timedelta(hours=2)


async def test_where_a_day_is_closed_and_the_device_warms_up(fleet: Fleet) -> None:
    # NOW is a Monday; Tuesday is closed.
    await fleet.ledger.change(fleet.ledger.user, sending_weekdays=[1, 3, 4])
    await fleet.add_device(warm_up_started_at=NOW, warm_up_first_day=20, warm_up_daily_step=10)
    await fleet.add_leads(90)

    assert await compare(fleet, await campaign_of(fleet, 10, 30)) > timedelta(days=1)


async def test_where_another_campaign_takes_turns(fleet: Fleet) -> None:
    devices = [await fleet.add_device() for _ in range(2)]
    other = await fleet.ledger.campaign(min_delay_seconds=20, max_delay_seconds=40)
    await fleet.ledger.messages(other, devices[0], 30)
    await fleet.add_leads(100)

    took = await compare(fleet, await campaign_of(fleet, 5, 15))

    assert took > timedelta(minutes=20)
