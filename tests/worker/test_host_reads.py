"""Reads of a device through its host: number checks, contacts and pictures."""

import asyncio

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.errors import NotFound, Unavailable
from siaran.host_reads import HostReader
from siaran.models import DeviceStatus
from tests.factories import add_host, add_user, new_phone
from tests.worker.conftest import RunningHost


@pytest.fixture
def reader(sessions: SessionMaker, redis: Redis, temporal_client: Client) -> HostReader:
    """Whoever asks."""
    return HostReader(sessions, redis, temporal_client)


async def test_a_device_says_which_numbers_have_an_account(running_host: RunningHost, reader: HostReader) -> None:
    await running_host.network.configure(not_on_whatsapp_rate=0.5)
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)
    phones = [new_phone() for _ in range(60)]

    found = await reader.check_numbers(device.user_id, device.id, phones)

    assert list(found) == phones
    assert 10 < sum(found.values()) < 50


async def test_simulated_accounts_know_no_names_and_no_pictures(running_host: RunningHost, reader: HostReader) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)

    assert await reader.read_contacts(device.user_id, device.id) == {}
    assert await reader.picture_url(device.user_id, device.id, new_phone()) is None


async def test_nothing_that_was_asked_or_answered_is_left_in_redis(
    running_host: RunningHost, reader: HostReader, redis: Redis
) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)

    await reader.check_numbers(device.user_id, device.id, [new_phone()])

    left = [key async for key in redis.scan_iter("host-read:*")]
    assert [key for key in left if key.endswith(":answer")] == []
    assert left
    assert all([0 < await redis.ttl(key) <= 120 for key in left])


async def test_a_device_that_is_not_online_is_not_asked(running_host: RunningHost, reader: HostReader) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.network.drop(device.id)
    await running_host.reach(device, DeviceStatus.OFFLINE)

    with pytest.raises(Unavailable, match="is not online"):
        await reader.check_numbers(device.user_id, device.id, [new_phone()])


async def test_a_device_of_another_user_is_not_asked(
    running_host: RunningHost, reader: HostReader, sessions: SessionMaker
) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)
    async with sessions.begin() as session:
        other = await add_user(session)

    with pytest.raises(NotFound):
        await reader.check_numbers(other.id, device.id, [new_phone()])


async def test_a_host_that_has_gone_without_a_word_is_noticed_in_seconds(
    running_host: RunningHost, reader: HostReader, sessions: SessionMaker
) -> None:
    async with sessions.begin() as session:
        silent = await add_host(session)
    device = await running_host.ledger.device(silent)

    async with asyncio.timeout(15):
        with pytest.raises(Unavailable, match="did not answer"):
            await reader.check_numbers(device.user_id, device.id, [new_phone()])
