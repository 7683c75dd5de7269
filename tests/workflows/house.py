"""A whole product in one process: a worker, a device host, the simulated network, and one user's devices and leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import select, text
from temporalio.client import Client

from activities.resources import Resources
from siaran.attempt_keys import secret_of
from siaran.clock import Clock, system_clock
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
from worker.__main__ import work
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
            self.leads = [await add_lead(session, self.ledger.user, name="Zulaikha") for _ in range(leads)]

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
            transport=SimulatedTransport(url.get_secret_value(), clock=use.clock),
            clock=use.clock,
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

    async def lanes_asleep(self) -> list[Lane]:
        """The lanes of the devices, once all have ended."""
        query = select(Lane).order_by(Lane.device_id)
        async with asyncio.timeout(15):
            while True:
                async with self.resources.sessions() as session:
                    lanes = list(await session.scalars(query))
                if all(lane.state is LaneState.ASLEEP for lane in lanes):
                    return lanes
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


@asynccontextmanager
async def open_house(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    client: Client,
    *,
    devices: int,
    leads: int,
    clock: Clock = system_clock,
) -> AsyncIterator[House]:
    """A house whose devices are online; they fail over, and give up waiting for receipts, soon."""
    settings = settings.model_copy(update={"failover_after_seconds": 0.5, "receipt_wait_seconds": 2.0})
    resources = Resources(settings, sessions, redis, client, clock)
    stop = asyncio.Event()
    assert settings.network_url is not None
    async with SimulatedNetwork(settings.network_url.get_secret_value(), clock=clock) as network:
        await network.configure(latency_ms=(5, 20), delivered_seconds=(0.05, 0.2), read_rate=0)
        house = House(resources, network)
        await house.open(devices=devices, leads=leads)
        async with work(resources):
            host = asyncio.create_task(house.host().run(stop))
            try:
                await house.online()
                yield house
            finally:
                stop.set()
                await host
