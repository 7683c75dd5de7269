"""A device host at work: connections, what it writes of them, and its queues."""

import asyncio
from datetime import timedelta

from siaran.clock import system_clock
from siaran.contracts import LaneInput
from siaran.gateway.interface import DeviceState
from siaran.lanes import announce_lanes
from siaran.models import DeviceStatus, LaneState, MessageStatus
from siaran.temporal import signal_lanes
from tests.activities.lanes_seen import signals_of_lane
from tests.waiting import eventually
from tests.worker.conftest import RunningHost, until


async def test_devices_that_are_given_to_a_host_go_online(running_host: RunningHost) -> None:
    devices = [await running_host.add_device() for _ in range(3)]

    rows = [await running_host.reach(device, DeviceStatus.ONLINE) for device in devices]

    assert all(row.last_seen is not None and row.offline_since_at is None for row in rows)


async def test_a_device_that_drops_is_shown_offline_since_then_and_comes_back_by_itself(running_host: RunningHost) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)

    await running_host.network.drop(device.id)
    row = await running_host.reach(device, DeviceStatus.OFFLINE)
    assert row.offline_since_at is not None
    assert row.last_error in {"dropped", "not_connected"}, "why it went, or why it could not come back yet"
    assert row.host_id == running_host.ledger.host.id

    await running_host.network.restore(device.id)
    row = await running_host.reach(device, DeviceStatus.ONLINE)
    assert row.offline_since_at is None


async def test_a_device_that_will_not_come_back_gives_its_place_free(running_host: RunningHost) -> None:
    banned, logged_out = await running_host.add_device(), await running_host.add_device()
    for device in (banned, logged_out):
        await running_host.reach(device, DeviceStatus.ONLINE)

    await running_host.network.ban(banned.id)
    await running_host.network.log_out(logged_out.id)

    assert (await running_host.reach(banned, DeviceStatus.BANNED)).host_id is None
    assert (await running_host.reach(logged_out, DeviceStatus.LOGGED_OUT)).host_id is None


async def test_a_device_that_is_linked_anew_is_connected_under_its_new_link(running_host: RunningHost) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.network.log_out(device.id)
    await running_host.reach(device, DeviceStatus.LOGGED_OUT)

    await running_host.link(device)

    assert (await running_host.reach(device, DeviceStatus.ONLINE)).link_generation == 2


async def test_a_device_that_is_taken_away_is_disconnected(running_host: RunningHost) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)

    await running_host.ledger.change(await running_host.device(device), host_id=None)

    await eventually(lambda: running_host.transport.state(device.id) is DeviceState.OFFLINE)


async def test_a_device_that_cannot_connect_yet_is_tried_again(running_host: RunningHost) -> None:
    device = await running_host.ledger.device(status=DeviceStatus.CONNECTING, host_id=None)
    await running_host.network.link(device.id, device.phone)
    await running_host.network.drop(device.id)
    device.host_id = running_host.ledger.host.id
    await running_host.ledger.change(device)
    row = await running_host.reach(device, DeviceStatus.OFFLINE)
    assert row.last_error == "not_connected"

    await running_host.network.restore(device.id)

    await running_host.reach(device, DeviceStatus.ONLINE)


async def test_an_open_lane_is_told_when_its_device_is_here(running_host: RunningHost) -> None:
    device, sleeper = await running_host.add_device(), await running_host.add_device()
    client = running_host.host._connections._client
    await running_host.ledger.change(await running_host.ledger.lane(device), state=LaneState.WAITING)
    await signal_lanes(client, [LaneInput(lane.id, lane.user_id) for lane in (device, sleeper)])

    await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.reach(sleeper, DeviceStatus.ONLINE)

    async def is_told() -> bool:
        return await signals_of_lane(client, device) == ["wake", "moved"]

    await until(is_told)
    assert await signals_of_lane(client, sleeper) == ["wake"]


async def test_receipts_reach_the_ledger(running_host: RunningHost) -> None:
    device, campaign = await running_host.add_device(), await running_host.ledger.campaign()
    await running_host.reach(device, DeviceStatus.ONLINE)
    [message_id] = await running_host.ledger.messages(campaign, device)
    claim = await running_host.ledger.claimed(device, at=system_clock())

    await running_host.host._sends._transmitter.transmit(claim, gap=timedelta(0))

    async def is_delivered() -> bool:
        return await running_host.ledger.status(message_id) is MessageStatus.DELIVERED

    await until(is_delivered)
    await running_host.ledger.check()


async def test_a_queue_is_polled_while_its_lane_runs_and_its_device_is_online(running_host: RunningHost) -> None:
    running, asleep, offline = [await running_host.add_device() for _ in range(3)]
    for device in (running, asleep, offline):
        await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.network.drop(offline.id)
    await running_host.reach(offline, DeviceStatus.OFFLINE)
    polled = running_host.host._queues._runs
    for device in (running, offline):
        await running_host.ledger.change(await running_host.ledger.lane(device), state=LaneState.RUNNING)

    await eventually(lambda: set(polled) == {running.id})
    await running_host.network.restore(offline.id)
    await eventually(lambda: set(polled) == {running.id, offline.id})

    for device in (running, offline):
        await running_host.ledger.change(await running_host.ledger.lane(device), state=LaneState.ASLEEP)
    await eventually(lambda: not polled)


async def test_a_notice_opens_a_queue_at_once(running_host: RunningHost) -> None:
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)
    await asyncio.sleep(0.1)

    await announce_lanes(running_host.host._queues._redis, [device.id])

    await eventually(lambda: device.id in running_host.host._queues._runs)
