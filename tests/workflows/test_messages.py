"""What goes out, end to end: test sends ahead of a campaign, edits midway, and images with captions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select
from temporalio.client import Client

from siaran.campaign_fields import CampaignChanges, edit_campaign
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.gateway.interface import Body, MessageType
from siaran.gateway.simulated_record import body_digest
from siaran.lanes import wake_lanes
from siaran.media import NewMedia, keep_media, reference_to
from siaran.media_types import MediaKind, MediaType
from siaran.models import Campaign, MessageAttempt, MessageStatus
from siaran.one_off import MessageNow, OneOff, queue_one_off, wait_for_end
from siaran.settings import Settings
from tests.factories import new_phone
from tests.media_files import png
from tests.workflows.house import House, open_house

SENT = {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ}


@pytest.fixture
async def house(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> AsyncIterator[House]:
    """One device online and ten leads."""
    async with open_house(settings, sessions, redis, temporal_client, devices=1, leads=10) as house:
        yield house


async def send_once(house: House, **fields: Any) -> MessageNow:
    """Send a one-off message to a new number, as an endpoint does."""
    wanted = OneOff(phone=f"+{new_phone()}", text="Hi {{name}}", is_template=True, **fields)
    use, user = house.resources, house.ledger.user
    async with use.sessions.begin() as session:
        message = await queue_one_off(session, user.id, wanted, country="MY", now=system_clock())
    await wake_lanes(use.sessions, use.client, use.redis, [message.device_id])
    return await wait_for_end(use.sessions, user.id, message.id, seconds=20)


async def store_image(house: House) -> str:
    async with house.resources.sessions.begin() as session:
        new = NewMedia(png(), MediaType(MediaKind.IMAGE, "image/png", ".png"), "promo.png")
        return reference_to((await keep_media(session, house.ledger.user.id, new, system_clock())).id)


async def bodies(house: House) -> set[str]:
    return {sent.body_sha256 async for sent in house.network.transmissions()}


async def test_a_test_message_wakes_a_sleeping_lane_and_its_end_is_known(house: House) -> None:
    image = await store_image(house)
    found = await send_once(house, message_type="image", media_url=image)
    assert found.message.status in SENT
    assert found.attempt is not None
    assert (found.attempt.content, found.attempt.media_url) == ("Hi Aisyah", image)
    assert await bodies(house) == {body_digest(Body(MessageType.IMAGE, "Hi Aisyah", image))}


async def test_a_test_message_goes_ahead_of_a_campaign_under_way(house: House) -> None:
    campaign = await house.campaign(min_delay_seconds=1, max_delay_seconds=1)
    await _until_sent(house, campaign, 1)
    found = await send_once(house)
    assert found.message.status in SENT
    assert (await house.ledger.counts(campaign))["pending"] >= 5
    assert (await house.network.counts()).repeated == 0


async def test_a_number_without_an_account_is_reported_by_its_reason(house: House) -> None:
    await house.network.configure(failure_rate=1.0)
    found = await send_once(house)
    assert found.message.status is MessageStatus.FAILED
    assert found.message.error_message


async def test_while_the_device_is_away_the_message_waits_and_then_goes_out(house: House) -> None:
    device_id = house.devices[0].id
    await house.network.drop(device_id, 1.5)
    waiting = asyncio.create_task(send_once(house))
    await asyncio.sleep(1)
    assert not waiting.done()
    assert (await waiting).message.status in SENT


async def test_an_edit_midway_reaches_those_who_have_not_been_sent_to(house: House) -> None:
    campaign = await house.campaign(message="First {{name}}", min_delay_seconds=1, max_delay_seconds=1)
    await _until_sent(house, campaign, 2)
    image = await store_image(house)
    async with house.resources.sessions.begin() as session:
        changes = CampaignChanges(
            message="Second {Hi|Hello} {{name}}", image_url=image, min_delay_seconds=0, max_delay_seconds=0
        )
        await edit_campaign(session, campaign.user_id, campaign.id, changes, zone="UTC", now=system_clock())
    assert await house.end_of(campaign) == "sent: 10 messages ended"
    async with house.resources.sessions() as session:
        query = select(MessageAttempt).order_by(MessageAttempt.attempted_at)
        attempts = [(attempt.content, attempt.media_url) for attempt in await session.scalars(query)]
    first = [attempt for attempt in attempts if attempt == ("First Zulaikha", None)]
    second = [attempt for attempt in attempts if attempt[1] == image]
    assert 2 <= len(first) < 10
    assert attempts == [*first, *second]
    assert {content for content, _ in second} <= {"Second Hi Zulaikha", "Second Hello Zulaikha"}
    assert (await house.compare(campaign)).is_clean


async def _until_sent(house: House, campaign: Campaign, number: int) -> None:
    async with asyncio.timeout(20):
        while (await house.ledger.counts(campaign)).get("pending", 10) > 10 - number:  # noqa: ASYNC110 -- the host writes it
            await asyncio.sleep(0.05)
