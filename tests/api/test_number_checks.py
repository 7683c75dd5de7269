"""Number checks: asked of a device's host, remembered, few at a time, and never in the way of a message."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient, Response
from redis.asyncio import Redis
from sqlalchemy import func, select, update
from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.errors import Unavailable
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.host_reads import HostReader
from siaran.models import BroadcastMessage, Device, DeviceStatus, IncomingMessage
from siaran.number_checks import A_MINUTE, NumberChecks
from siaran.settings import Settings
from tests.api.campaign_rows import add_device, add_messages, create, user_id_of
from tests.api.conftest import another_client, register
from worker.host_reads import HostReads

PHONE = "60123456789"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Numbers are checked, as they are unless told otherwise."""
    return settings.model_copy(update={"account_validation": True})


@pytest.fixture
async def network(network_url: str) -> AsyncIterator[SimulatedNetwork]:
    """A network on which nobody has an account until told otherwise."""
    async with SimulatedNetwork(network_url) as network:
        await network.configure(latency_ms=(0, 0), not_on_whatsapp_rate=1)
        yield network


@pytest.fixture
async def aisyah(api: AsyncClient) -> AsyncClient:
    """Somebody who is logged in."""
    return await register(api)


@pytest.fixture
async def device(
    aisyah: AsyncClient,
    sessions: SessionMaker,
    network: SimulatedNetwork,
    network_url: str,
    redis: Redis,
    temporal_client: Client,
) -> AsyncIterator[UUID]:
    """Her one device, connected by a host that answers questions."""
    device_id = await add_device(sessions, await user_id_of(sessions))
    async with sessions() as session:
        host_id = (await session.get_one(Device, device_id)).host_id
    assert host_id is not None
    transport = SimulatedTransport(network_url)
    await transport.open()
    await transport.connect((await network.link(device_id, "60198765432")).ref)
    reads = HostReads(host_id, client=temporal_client, transport=transport, redis=redis)
    answering = asyncio.create_task(reads.run())
    yield device_id
    await reads.close()
    await answering
    await transport.close()


async def check(client: AsyncClient, **parameters: Any) -> Response:
    return await client.get("/user/check", params={"phone": PHONE, **parameters})


async def send(client: AsyncClient, phone: str = PHONE) -> Response:
    return await client.post("/send/message", json={"phone": phone, "message": "Hi", "wait_seconds": 0})


async def queued(sessions: SessionMaker) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(BroadcastMessage)) or 0


async def test_a_number_is_on_whatsapp_or_not(aisyah, device, network):
    absent = await check(aisyah, phone="012-345 6789")
    assert absent.json()["results"] == {"is_on_whatsapp": False, "phone": PHONE, "device_id": str(device)}
    await network.configure(not_on_whatsapp_rate=0)
    assert (await check(aisyah, phone="60123456700@s.whatsapp.net", device_id=str(device))).json()["results"]["is_on_whatsapp"]


async def test_answers_are_remembered_for_each_user_apart(aisyah, device, network, redis, api):
    assert not (await check(aisyah)).json()["results"]["is_on_whatsapp"]
    await network.configure(not_on_whatsapp_rate=0)
    assert not (await check(aisyah)).json()["results"]["is_on_whatsapp"]
    assert (await check(aisyah, phone="60123456700")).json()["results"]["is_on_whatsapp"]
    [absent, present] = sorted([await redis.ttl(key) async for key in redis.scan_iter("siaran:account:*")])
    assert (0 < absent <= 600, 80_000 < present <= 86_400) == (True, True)
    stranger = await register(api, email="badrul@example.com")
    assert (await check(stranger)).status_code == 409, "none of their own devices is online"


async def test_only_few_numbers_are_asked_about_in_a_minute(aisyah, device, sessions):
    for number in range(A_MINUTE):
        assert (await check(aisyah, phone=f"6012345{number:04}")).status_code == 200
    refused = await check(aisyah)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert (await check(aisyah, phone="60123450000")).status_code == 200, "remembered"
    # A message is not kept waiting for it: WhatsApp itself says so when it is sent.
    assert (await send(aisyah)).status_code == 202
    assert await queued(sessions) == 1


async def test_bad_input_and_devices_of_others_are_refused(aisyah, device, sessions, api):
    assert [error["field"] for error in (await check(aisyah, phone="12")).json()["errors"]] == ["phone"]
    assert [error["field"] for error in (await check(aisyah, device_id="front")).json()["errors"]] == ["device_id"]
    assert (await check(aisyah, phone="1203@g.us")).status_code == 422
    assert (await check(aisyah, device_id=str(uuid4()))).status_code == 404
    await register(api, email="badrul@example.com")
    foreign = await add_device(sessions, await user_id_of(sessions, "badrul@example.com"))
    assert (await check(aisyah, device_id=str(foreign))).status_code == 404
    assert (await check(another_client(api))).status_code == 401


async def test_a_device_that_is_offline_is_not_asked(aisyah, device, sessions):
    away = await add_device(sessions, await user_id_of(sessions), "away", status=DeviceStatus.OFFLINE)
    assert (await check(aisyah, device_id=str(away))).status_code == 503


async def test_a_message_to_a_number_without_an_account_is_refused(aisyah, device, sessions, network):
    refused = await send(aisyah)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "phone", "reason": "has no WhatsApp account"}]
    campaign = await create(aisyah)
    test = await aisyah.post(f"/api/campaigns/{campaign['id']}/test", json={"phone": PHONE, "wait_seconds": 0})
    assert test.status_code == 422
    assert await queued(sessions) == 0
    await network.configure(not_on_whatsapp_rate=0)
    assert (await send(aisyah, "60123456700")).status_code == 202


async def test_who_was_written_to_or_has_written_is_not_checked(aisyah, device, sessions):
    campaign = await create(aisyah)
    await add_messages(sessions, campaign, device, ["delivered"], recipient_phone=PHONE)
    now = datetime.now(UTC)
    async with sessions.begin() as session:
        heard = {"user_id": await user_id_of(sessions), "day": now.date(), "is_reply": False, "received_at": now}
        session.add(IncomingMessage(device_id=device, sender="60123456700", whatsapp_id="wa-1", **heard))
    assert (await send(aisyah)).status_code == 202
    assert (await send(aisyah, "60123456700")).status_code == 202
    assert (await send(aisyah, "60123456701")).status_code == 422


async def test_without_redis_nobody_is_asked_and_nothing_is_kept_back(aisyah, device, sessions, temporal_client):
    user = await user_id_of(sessions)
    async with Redis(port=1) as nowhere:
        checks = NumberChecks(HostReader(sessions, nowhere, temporal_client), nowhere)
        with pytest.raises(Unavailable):
            await checks.has_account(user, device, PHONE)
        assert not await checks.is_known_absent(user, device, PHONE)


async def test_a_device_that_cannot_be_asked_does_not_keep_messages_back(aisyah, device, sessions):
    async with sessions.begin() as session:
        await session.execute(update(Device).values(status=DeviceStatus.OFFLINE))
    assert (await send(aisyah)).status_code == 202
    async with sessions.begin() as session:
        await session.execute(update(Device).values(status=DeviceStatus.ONLINE))
    # For a while nobody waits for it again.
    assert (await send(aisyah)).status_code == 202
    assert await queued(sessions) == 2
