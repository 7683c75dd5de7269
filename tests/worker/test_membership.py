"""A host whose devices are connected before it serves: when it wants to be renewed, and when it does not."""

import asyncio
from datetime import timedelta

import psutil
import pytest

from siaran.clock import system_clock
from siaran.gateway.interface import DeviceState, StateChanged
from siaran.linking import reconnect
from siaran.models import Device, DeviceStatus, LaneState, MessageStatus
from tests.factories import NOW, after
from tests.waiting import eventually
from tests.worker.conftest import RunningHost, StartHost
from worker import budget, membership
from worker.budget import Budget
from worker.membership import Away

Fixed = tuple[RunningHost, StartHost]


async def test_devices_that_were_placed_before_are_connected_and_their_queues_are_open(fixed_host: Fixed) -> None:
    house, start = fixed_host
    devices = [await house.add_device() for _ in range(3)]
    for device in devices:
        await house.ledger.change(await house.ledger.lane(device), state=LaneState.RUNNING)

    async with start() as host:
        for device in devices:
            await host.reach(device, DeviceStatus.ONLINE)
        await eventually(lambda: set(host.host._queues._runs) == {device.id for device in devices})
        await asyncio.sleep(0.3)
        assert not host.host.renewal.is_asked


async def test_another_device_renews_the_host(fixed_host: Fixed) -> None:
    house, start = fixed_host
    device = await house.add_device()
    async with start() as host:
        await host.reach(device, DeviceStatus.ONLINE)
        await house.add_device()
        assert await host.renewed() == "membership"


async def test_a_device_that_is_taken_away_renews_the_host(fixed_host: Fixed) -> None:
    house, start = fixed_host
    staying, leaving = await house.add_device(), await house.add_device()
    async with start() as host:
        for device in (staying, leaving):
            await host.reach(device, DeviceStatus.ONLINE)
        await house.ledger.change(await host.device(leaving), is_active=False)
        assert await host.renewed() == "membership"


async def test_what_is_under_way_is_recorded_before_a_host_is_renewed(fixed_host: Fixed) -> None:
    house, start = fixed_host
    device = await house.add_device()
    async with start() as host:
        await host.reach(device, DeviceStatus.ONLINE)
        campaign = await house.ledger.campaign()
        [message] = await house.ledger.messages(campaign, device)
        await house.network.configure(latency_ms=(700, 700))
        claim = await house.ledger.claimed(device, at=system_clock())
        desk = host.host._sends
        transmitter = desk._transmitter
        task = asyncio.create_task(transmitter.transmit(claim, gap=timedelta(0)))
        desk._under_way[device.id] = task
        await house.add_device()
        assert await host.renewed() == "membership"
        assert task.done()
    assert await house.ledger.status(message) in {MessageStatus.SENT, MessageStatus.DELIVERED}


@pytest.mark.parametrize("ending", ["ban", "log_out"])
async def test_a_device_that_is_lost_for_good_disturbs_nobody(fixed_host: Fixed, ending: str) -> None:
    house, start = fixed_host
    lost, other = await house.add_device(), await house.add_device()
    async with start() as host:
        for device in (lost, other):
            await host.reach(device, DeviceStatus.ONLINE)
        await getattr(house.network, ending)(lost.id)
        row = await host.reach(lost, DeviceStatus.BANNED if ending == "ban" else DeviceStatus.LOGGED_OUT)
        assert row.host_id is None
        await asyncio.sleep(0.5)
        assert not host.host.renewal.is_asked
        assert host.host._transport.state(other.id) is DeviceState.ONLINE


async def test_a_host_whose_last_device_is_lost_ends(fixed_host: Fixed) -> None:
    house, start = fixed_host
    device = await house.add_device()
    async with start() as host:
        await host.reach(device, DeviceStatus.ONLINE)
        await house.network.ban(device.id)
        assert await host.renewed() == "no devices"


async def dropped(house: RunningHost) -> Device:
    """A device that cannot be connected."""
    device = await house.add_device()
    await house.network.drop(device.id)
    return device


async def test_a_device_that_cannot_be_connected_renews_its_host_after_a_pause(
    fixed_host: Fixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, start = fixed_host
    monkeypatch.setattr(membership, "FIRST_PAUSE", timedelta(seconds=1))
    online, away = await house.add_device(), await dropped(house)
    async with start() as host:
        await host.reach(away, DeviceStatus.OFFLINE)
        await host.reach(online, DeviceStatus.ONLINE)
        await asyncio.sleep(0.3)
        assert not host.host.renewal.is_asked
        assert await host.renewed() == "reconnect"


async def test_a_device_that_comes_back_by_itself_renews_nothing(fixed_host: Fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    house, start = fixed_host
    monkeypatch.setattr(membership, "FIRST_PAUSE", timedelta(seconds=1))
    away = await dropped(house)
    async with start() as host:
        await host.reach(away, DeviceStatus.OFFLINE)
        await house.network.restore(away.id)
        await host.reach(away, DeviceStatus.ONLINE)
        await asyncio.sleep(1.2)
        assert not host.host.renewal.is_asked


async def test_a_frozen_device_is_shown_offline_until_it_answers_again(fixed_host: Fixed) -> None:
    house, start = fixed_host
    device = await house.add_device()
    async with start() as host:
        assert (await host.freeze(device)).last_error == "frozen"

        del host.transport.frozen[device.id]
        await host.reach(device, DeviceStatus.ONLINE)
        assert not host.host.renewal.is_asked


async def test_a_device_that_stays_frozen_renews_its_host(fixed_host: Fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    house, start = fixed_host
    monkeypatch.setattr(membership, "DROPPED_PAUSE", timedelta(seconds=0.5))
    device, other = await house.add_device(), await house.add_device()
    async with start() as host:
        for one in (device, other):
            await host.reach(one, DeviceStatus.ONLINE)
        host.transport.frozen[device.id] = system_clock()
        assert await host.renewed() == "reconnect"


async def test_somebody_who_asks_for_a_device_waits_for_a_young_host_with_others_online(
    fixed_host: Fixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, start = fixed_host
    monkeypatch.setattr(membership, "ASKED_PAUSE", timedelta(seconds=1))
    online, away = await house.add_device(), await dropped(house)
    async with start() as host:
        await host.reach(away, DeviceStatus.OFFLINE)
        await host.reach(online, DeviceStatus.ONLINE)
        async with house.ledger.sessions.begin() as session:
            await reconnect(session, away.user_id, away.id)
        await asyncio.sleep(0.3)
        assert not host.host.renewal.is_asked
        assert await host.renewed() == "asked for"


async def test_a_process_over_its_budget_is_renewed_once_it_is_old_enough(
    fixed_host: Fixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, start = fixed_host
    monkeypatch.setattr(budget, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(budget, "LEAST_AGE_SECONDS", 0.5)
    device = await house.add_device()
    async with start() as host:
        host.host._budget = Budget(memory_mb=1, descriptors=100_000)
        await host.reach(device, DeviceStatus.ONLINE)
        assert not host.host.renewal.is_asked
        assert (await host.renewed()).startswith("memory: ")


def test_a_budget_is_exceeded_by_memory_or_by_descriptors() -> None:
    process = psutil.Process()
    used_mb = process.memory_info().rss / 1_000_000

    assert Budget(round(used_mb * 2), 100_000).excess(process) is None
    assert "MB" in (Budget(round(used_mb / 2), 100_000).excess(process) or "")
    assert "descriptors" in (Budget(round(used_mb * 2), 1).excess(process) or "")


def test_pauses_double_up_to_a_limit() -> None:
    longest = timedelta(minutes=30)
    tried_at, pauses = NOW, []
    for _ in range(9):
        due_at = Away(DeviceState.OFFLINE, NOW, tried_at, is_over=False).due_at(NOW, longest)
        pauses.append((due_at - tried_at).total_seconds())
        tried_at = due_at

    assert pauses == [15, 15, 30, 60, 120, 240, 480, 960, 1800]


def test_a_dropped_connection_is_left_to_the_transport_for_longer_than_one_that_is_over() -> None:
    longest = timedelta(minutes=30)
    assert Away(DeviceState.OFFLINE, after(0), None, is_over=False).due_at(NOW, longest) == after(300)
    assert Away(DeviceState.REPLACED, after(0), None, is_over=True).due_at(NOW, longest) == after(60)
    assert Away(DeviceState.REPLACED, after(0), None, is_over=True, was_brief=True).due_at(NOW, longest) == after(600)


async def test_a_device_is_frozen_as_long_as_a_send_hangs_whatever_its_connection_does(fixed_host: Fixed) -> None:
    house, start = fixed_host
    device = await house.add_device()
    async with start() as host:
        await host.freeze(device)
        online = StateChanged(device.id, DeviceState.ONLINE, system_clock())
        host.host._connections.noticed(online)
        await host.host._news.submit(online)

        assert (await host.reach(device, DeviceStatus.OFFLINE)).last_error == "frozen"
