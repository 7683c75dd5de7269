"""Whole campaigns with the real activities, a real ledger, a device host in this process, and the simulated network."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from temporalio.client import Client

from activities.resources import Resources
from siaran.attempt_keys import secret_of
from siaran.clock import system_clock
from siaran.contracts import CampaignInput, RetryInput, campaign_workflow_id
from siaran.db import SessionMaker
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import Campaign, CampaignRetry, CampaignStatus, Device, DeviceStatus, Lane, LaneState, Lead
from siaran.reconciliation import Reconciliation, reconcile_campaigns
from siaran.settings import Settings
from siaran.temporal import nudge_campaign, request_retry
from tests.factories import add_lead
from tests.ledger.driver import Ledger
from worker.__main__ import make_worker
from worker.host import Host


class House:
    """A user with linked devices and leads, a worker, and a host that holds the devices."""

    def __init__(self, resources: Resources, network: SimulatedNetwork) -> None:
        self.resources = resources
        self.network = network
        self.ledger = Ledger(resources.sessions)
        self.leads: list[Lead] = []
        self.devices: list[Device] = []

    async def open(self, *, devices: int, leads: int) -> None:
        """Link devices and import leads."""
        await self.ledger.open()
        for _ in range(devices):
            device = await self.ledger.device(status=DeviceStatus.CONNECTING, max_per_minute=1000)
            ref = (await self.network.link(device.id, device.phone)).ref
            device.jid, device.link_generation = ref.jid, ref.link_generation
            await self.ledger.change(device)
            self.devices.append(device)
        async with self.resources.sessions.begin() as session:
            self.leads = [await add_lead(session, self.ledger.user) for _ in range(leads)]

    def host(self) -> Host:
        """The host of the devices."""
        use, url = self.resources, self.resources.settings.network_url
        assert url is not None
        return Host(
            self.ledger.host.id,
            settings=use.settings,
            sessions=use.sessions,
            redis=use.redis,
            client=use.client,
            transport=SimulatedTransport(url.get_secret_value()),
            clock=system_clock,
        )

    async def online(self) -> None:
        """Return once every device is online."""
        query = text("SELECT count(*) FROM user_devices WHERE status <> 'online'")
        async with asyncio.timeout(15):
            while True:
                async with self.resources.sessions() as session:
                    if not (await session.execute(query)).scalar_one():
                        return
                await asyncio.sleep(0.05)

    async def campaign(self, **columns: Any) -> Campaign:
        """A campaign that is due now; its workflow has been told."""
        campaign = await self.ledger.campaign(
            status=CampaignStatus.SCHEDULED, scheduled_at=system_clock(), expanded_at=None, **columns
        )
        assert await nudge_campaign(self.resources.client, CampaignInput(campaign.id, campaign.user_id))
        return campaign

    async def end_of(self, campaign: Campaign) -> str:
        """What the campaign's workflow ends with."""
        async with asyncio.timeout(60):
            result: str = await self.resources.client.get_workflow_handle(campaign_workflow_id(campaign.id)).result()
            return result

    async def retry(self, campaign: Campaign) -> None:
        """Ask for all failed messages of the campaign once more."""
        async with self.resources.sessions.begin() as session:
            request = CampaignRetry(campaign_id=campaign.id, user_id=campaign.user_id, requested_by=campaign.user_id)
            session.add(request)
        await request_retry(self.resources.client, RetryInput(campaign.id, campaign.user_id, request.id))

    async def compare(self, *campaigns: Campaign) -> Reconciliation:
        """The network's record against the ledger and the leads."""
        phones = [lead.phone for lead in self.leads]
        expected = {campaign.id: phones for campaign in campaigns}
        secret = secret_of(self.resources.settings)
        async with self.resources.sessions() as session:
            return await reconcile_campaigns(session, self.network, self.ledger.user.id, expected, secret)


@pytest.fixture
async def house(
    settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client, network_url: str
) -> AsyncIterator[House]:
    """Fifteen devices online and a hundred leads."""
    settings = settings.model_copy(update={"failover_after_seconds": 0.5, "receipt_wait_seconds": 2.0})
    resources = Resources(settings, sessions, redis, temporal_client, system_clock)
    stop = asyncio.Event()
    async with SimulatedNetwork(network_url) as network:
        await network.configure(latency_ms=(5, 20), delivered_seconds=(0.05, 0.2), read_rate=0)
        house = House(resources, network)
        await house.open(devices=15, leads=100)
        async with make_worker(resources):
            host = asyncio.create_task(house.host().run(stop))
            await house.online()
            yield house
            stop.set()
            await host


async def test_a_campaign_goes_out_over_fifteen_devices_and_is_sent(house: House) -> None:
    campaign = await house.campaign(message="Hi {{name}}")

    assert await house.end_of(campaign) == "sent: 100 messages ended"

    assert (await house.compare(campaign)).is_clean
    counts = await house.ledger.counts(campaign)
    assert counts.get("sent", 0) + counts.get("delivered", 0) == 100
    by_device = (await house.network.counts()).by_device
    assert sorted(by_device.values()) == [6] * 5 + [7] * 10
    await house.ledger.check()
    async with house.resources.sessions() as session:
        lanes = [await session.get_one(Lane, device.id) for device in house.devices]
    assert {lane.state for lane in lanes} == {LaneState.ASLEEP}
    assert sum(lane.processed for lane in lanes) == 100


async def test_a_device_drops_some_messages_fail_and_a_retry_after_the_end_sends_them(house: House) -> None:
    await house.network.configure(failure_rate=0.2, ack_loss_rate=0.03, ack_timeout_seconds=0.3, seed=5)
    campaigns = [await house.campaign(min_delay_seconds=0, max_delay_seconds=1) for _ in range(2)]
    await asyncio.sleep(1)
    await house.network.drop(house.devices[0].id)

    ends = [await house.end_of(campaign) for campaign in campaigns]

    assert ends == ["sent: 100 messages ended"] * 2
    comparison = await house.compare(*campaigns)
    assert comparison.is_clean, comparison
    failed = [(await house.ledger.counts(campaign)).get("failed", 0) for campaign in campaigns]
    assert min(failed) > 0
    await house.ledger.check()

    await house.network.configure(failure_rate=0)
    for campaign in campaigns:
        await house.retry(campaign)
    for campaign in campaigns:
        assert await house.end_of(campaign) == "sent: 100 messages ended"
        assert (await house.ledger.counts(campaign)).get("failed", 0) == 0
    assert (await house.compare(*campaigns)).is_clean
    await house.ledger.check()


async def test_a_campaign_without_leads_ends_as_failed_and_says_why(house: House) -> None:
    campaign = await house.campaign(niche="NOBODY")

    assert await house.end_of(campaign) == "failed: 0 messages ended"

    async with house.resources.sessions() as session:
        row = await session.get_one(Campaign, campaign.id)
    assert (row.status, row.status_reason) == (CampaignStatus.FAILED, "no lead matches the niche and target status")
