"""Whole campaigns with the real activities, a real ledger, a device host in this process, and the simulated network."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.models import Campaign, CampaignStatus
from siaran.settings import Settings
from tests.workflows.house import House, open_house


@pytest.fixture
async def house(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> AsyncIterator[House]:
    """Fifteen devices online and a hundred leads."""
    async with open_house(settings, sessions, redis, temporal_client, devices=15, leads=100) as house:
        yield house


async def test_a_campaign_goes_out_over_fifteen_devices_and_is_sent(house: House) -> None:
    campaign = await house.campaign(message="Hi {{name}}")

    assert await house.end_of(campaign) == "sent: 100 messages ended"

    assert (await house.compare(campaign)).is_clean
    counts = await house.ledger.counts(campaign)
    assert counts.get("sent", 0) + counts.get("delivered", 0) == 100
    by_device = (await house.network.counts()).by_device
    assert sorted(by_device.values()) == [6] * 5 + [7] * 10
    await house.ledger.check()
    lanes = await house.lanes_asleep()
    assert sum(lane.processed for lane in lanes) == 100


async def test_a_device_drops_some_messages_fail_and_a_retry_after_the_end_sends_them(house: House) -> None:
    await house.network.configure(failure_rate=0.2, ack_loss_rate=0.03, ack_timeout_seconds=0.3, latency_ms=(20, 80), seed=5)
    campaigns = [await house.campaign() for _ in range(2)]
    await asyncio.sleep(0.3)
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
