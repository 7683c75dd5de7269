"""A device host at work: connections, what it writes of them, and its queues."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from sqlalchemy import select, text

from siaran.clock import system_clock
from siaran.contracts import LaneInput
from siaran.gateway import simulated_keys as keys
from siaran.gateway.interface import DeviceState
from siaran.lanes import announce_lanes
from siaran.linking import reconnect
from siaran.models import Activity, DeviceStatus, LaneState, MessageStatus
from siaran.temporal import signal_lanes
from tests.activities.lanes_seen import signals_of_lane
from tests.waiting import eventually
from tests.worker.conftest import RunningHost, until
from worker import connections, queues


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
    assert row.host_id == running_host.ledger.host.id
    await asyncio.sleep(0.5)
    row = await running_host.device(device)
    assert row.last_error == "dropped", "why it went, not that it could not be connected again since"

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
    async with running_host.ledger.sessions() as session:
        noted = await session.execute(select(Activity.kind, Activity.device_id).where(Activity.kind != "device.linked"))
    assert {(row.kind, row.device_id) for row in noted} == {("device.banned", banned.id), ("device.logged_out", logged_out.id)}


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


async def test_why_a_device_went_away_before_says_nothing_of_why_it_cannot_connect_now(running_host: RunningHost) -> None:
    device = await running_host.ledger.device(status=DeviceStatus.CONNECTING, host_id=None)
    await running_host.network.link(device.id, device.phone)
    await running_host.network.drop(device.id)
    yesterday = system_clock() - timedelta(days=1)
    columns = {"last_error": "dropped", "last_error_at": yesterday, "offline_since_at": system_clock()}
    await running_host.ledger.change(device, host_id=running_host.ledger.host.id, **columns)

    row = await running_host.reach(device, DeviceStatus.OFFLINE)

    assert row.last_error == "not_connected"


async def test_a_device_is_back_as_soon_as_the_network_lets_it_in_again(
    running_host: RunningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "RETRY_AFTER", timedelta(hours=1))
    monkeypatch.setattr(connections, "RETRY_LIMIT", timedelta(hours=1))
    dropped = await running_host.add_device()
    await running_host.reach(dropped, DeviceStatus.ONLINE)
    await running_host.network.drop(dropped.id)
    refused = await running_host.ledger.device(status=DeviceStatus.CONNECTING, host_id=None)
    await running_host.network.link(refused.id, refused.phone)
    await running_host.network.drop(refused.id)
    await running_host.ledger.change(refused, host_id=running_host.ledger.host.id)
    for device in (dropped, refused):
        await running_host.reach(device, DeviceStatus.OFFLINE)
    await asyncio.sleep(0.3)

    for device in (dropped, refused):
        await running_host.network.restore(device.id)

    for device in (dropped, refused):
        await running_host.reach(device, DeviceStatus.ONLINE)


async def test_a_device_that_somebody_asks_for_is_tried_at_once(
    running_host: RunningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "RETRY_AFTER", timedelta(hours=1))
    monkeypatch.setattr(connections, "RETRY_LIMIT", timedelta(hours=1))
    device = await running_host.add_device()
    await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.network.drop(device.id)
    await running_host.reach(device, DeviceStatus.OFFLINE)
    for _ in range(2):
        await asyncio.sleep(0.3)
        async with running_host.ledger.sessions.begin() as session:
            assert (await reconnect(session, device.user_id, device.id)).status is DeviceStatus.CONNECTING

        await running_host.reach(device, DeviceStatus.OFFLINE)  # tried, and refused again


async def test_an_open_lane_is_told_when_its_device_is_here(running_host: RunningHost) -> None:
    device, sleeper = await running_host.add_device(), await running_host.add_device()
    client = running_host.host._news._client
    await running_host.ledger.change(await running_host.ledger.lane(device), state=LaneState.WAITING)
    await signal_lanes(client, [LaneInput(lane.id, lane.user_id) for lane in (device, sleeper)])

    await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.reach(sleeper, DeviceStatus.ONLINE)

    async def is_told() -> bool:
        return "moved" in await signals_of_lane(client, device)

    await until(is_told)
    assert await signals_of_lane(client, sleeper) == ["wake"]


async def test_an_open_lane_is_told_when_its_device_has_come_to_a_host_that_cannot_connect_it(
    running_host: RunningHost,
) -> None:
    """The send that it waits for may have died with the host before: nobody else would end that wait for minutes."""
    device = await running_host.ledger.device(status=DeviceStatus.OFFLINE, host_id=None)
    await running_host.network.link(device.id, device.phone)
    await running_host.network.drop(device.id)
    client = running_host.host._news._client
    await running_host.ledger.change(await running_host.ledger.lane(device), state=LaneState.RUNNING)
    await signal_lanes(client, [LaneInput(device.id, device.user_id)])

    await running_host.ledger.change(device, host_id=running_host.ledger.host.id)

    async def is_told() -> bool:
        return "moved" in await signals_of_lane(client, device)

    await until(is_told)


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


async def test_what_a_host_records_is_counted_for_prometheus(running_host: RunningHost) -> None:
    device, campaign = await running_host.add_device(), await running_host.ledger.campaign()
    await running_host.reach(device, DeviceStatus.ONLINE)
    await running_host.ledger.messages(campaign, device, 2)
    counted = partial(REGISTRY.get_sample_value, "siaran_messages_total", {"status": "sent"})
    before = counted() or 0

    for _ in range(2):
        claim = await running_host.ledger.claimed(device, at=system_clock())
        await running_host.host._sends._transmitter.transmit(claim, gap=timedelta(0))

    assert counted() == before + 2


async def test_a_receipt_stays_with_the_network_until_it_is_committed(running_host: RunningHost, network_url: str) -> None:
    device, campaign = await running_host.add_device(), await running_host.ledger.campaign()
    await running_host.reach(device, DeviceStatus.ONLINE)
    [message_id] = await running_host.ledger.messages(campaign, device)
    await running_host.network.configure(delivered_seconds=(0.2, 0.2))
    claim = await running_host.ledger.claimed(device, at=system_clock())
    await running_host.host._sends._transmitter.transmit(claim, gap=timedelta(0))

    async with Redis.from_url(network_url) as valkey, running_host.ledger.sessions.begin() as other:
        await other.execute(text("SELECT 1 FROM broadcast_messages WHERE id = :id FOR UPDATE"), {"id": message_id})

        async def is_taken() -> bool:
            return bool(await valkey.exists(keys.taken(device.id)))

        await until(is_taken)
        await asyncio.sleep(0.5)
        assert await valkey.hlen(keys.inbox(device.id)) == 1
        assert await running_host.ledger.status(message_id) is MessageStatus.SENT
        await other.rollback()

        async def is_forgotten() -> bool:
            return not await valkey.exists(keys.inbox(device.id), keys.taken(device.id))

        await until(is_forgotten)
    assert await running_host.ledger.status(message_id) is MessageStatus.DELIVERED


async def test_the_queue_of_a_device_that_is_taken_away_is_closed_at_once(
    running_host: RunningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "KEEP_OPEN", timedelta(hours=1))
    taken, ended, dropped = [await running_host.add_device() for _ in range(3)]
    for device in (taken, ended, dropped):
        await running_host.reach(device, DeviceStatus.ONLINE)
        await running_host.ledger.change(await running_host.ledger.lane(device), state=LaneState.RUNNING)
    polled = running_host.host._queues._runs
    await eventually(lambda: set(polled) == {taken.id, ended.id, dropped.id})

    await running_host.ledger.change(await running_host.device(taken), host_id=None)
    await running_host.ledger.change(await running_host.ledger.lane(ended), state=LaneState.ASLEEP)
    await running_host.network.drop(dropped.id)
    await running_host.reach(dropped, DeviceStatus.OFFLINE)

    await eventually(lambda: taken.id not in polled)
    assert set(polled) == {ended.id, dropped.id}, "a lane that ended or a device that dropped may be back soon"
    await running_host.ledger.change(await running_host.device(taken), host_id=running_host.ledger.host.id)
    await eventually(lambda: taken.id in polled)


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
