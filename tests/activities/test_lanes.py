"""A lane's plan and failover on real rows, and the wake protocol between lanes and those who write rows for them."""

import asyncio
import random
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.lanes import LaneActivities
from activities.resources import Resources
from siaran.contracts import FailoverResult, LaneAction, LaneCheck, LaneInput, LanePlan
from siaran.errors import NotFound
from siaran.lane_standing import NEW_CHATS_HELD, LaneStanding, lane_standing
from siaran.lanes import NOTICES, wake_lanes
from siaran.ledger import moves
from siaran.models import CampaignStatus, Device, DeviceStatus, DeviceStrategy, LaneState, MessageStatus
from tests.activities.lanes_seen import signals_of_campaign, signals_of_lane
from tests.factories import NOW, add_one_off, after
from tests.ledger.driver import Ledger, record_of
from tests.waiting import eventually


class Lanes:
    """The activities of lanes."""

    def __init__(self, resources: Resources, environment: ActivityEnvironment) -> None:
        self.resources = resources
        self._activities = LaneActivities(resources)
        self._run = environment.run

    async def plan(self, device: Device, user_id: UUID | None = None) -> LanePlan:
        plan: LanePlan = await self._run(self._activities.plan_lane, LaneCheck(device.id, user_id or device.user_id))
        return plan

    async def fail_over(self, device: Device) -> FailoverResult:
        result: FailoverResult = await self._run(self._activities.fail_over, LaneInput(device.id, device.user_id))
        return result

    async def wake(self, *devices: Device) -> int:
        use = self.resources
        return await wake_lanes(use.sessions, use.client, use.redis, [device.id for device in devices])


@pytest.fixture
def lanes(resources: Resources, environment: ActivityEnvironment) -> Lanes:
    """The activities of lanes."""
    return Lanes(resources, environment)


async def test_a_lane_plans_by_what_stands_in_its_rows(lanes: Lanes, ledger: Ledger) -> None:
    owner = {"device_strategy": DeviceStrategy.OWNER}
    cases: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], LaneAction]] = [
        ({}, {}, {}, LaneAction.SEND),
        ({}, {"status": MessageStatus.SENT}, {}, LaneAction.END),
        ({}, {"status": MessageStatus.CLAIMED}, {}, LaneAction.SEND),
        ({}, {"scheduled_at": after(60)}, {}, LaneAction.WAIT),
        ({"status": CampaignStatus.PAUSED}, {}, {}, LaneAction.WAIT),
        ({}, {}, {"status": DeviceStatus.OFFLINE, "offline_since_at": after(-120)}, LaneAction.FAIL_OVER),
        ({}, {}, {"status": DeviceStatus.OFFLINE, "offline_since_at": after(-30)}, LaneAction.WAIT),
        ({}, {}, {"status": DeviceStatus.BANNED, "host_id": None}, LaneAction.FAIL_OVER),
        ({}, {}, {"restricted_until_at": after(60)}, LaneAction.FAIL_OVER),
        (owner, {}, {"status": DeviceStatus.BANNED}, LaneAction.WAIT),
        (owner, {}, {"deleted_at": NOW, "host_id": None}, LaneAction.FAIL_OVER),
    ]
    states = {LaneAction.END: LaneState.ASLEEP, LaneAction.WAIT: LaneState.WAITING}
    await ledger.device()
    for campaign, messages, columns, action in cases:
        device = await ledger.device()
        await ledger.messages(await ledger.campaign(**campaign), device, **messages)
        await ledger.change(device, **columns)

        plan = await lanes.plan(device)

        assert plan.action is action, (campaign, messages, columns)
        lane = await ledger.lane(device)
        assert lane.state == states.get(action, LaneState.RUNNING)
        waits = (plan.why, plan.until_at) if action is LaneAction.WAIT else (None, None)
        assert (lane.waiting_for, lane.waiting_until_at) == waits


async def test_a_lane_without_another_device_waits_for_its_own(lanes: Lanes, ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device(status=DeviceStatus.BANNED)
    await ledger.messages(campaign, device)
    paused = await ledger.device()
    await ledger.change(await ledger.lane(paused), paused_at=NOW)

    assert (await lanes.plan(device)).action is LaneAction.WAIT


async def test_a_paused_campaign_at_the_head_does_not_hold_up_another(lanes: Lanes, ledger: Ledger) -> None:
    device = await ledger.device()
    for status in (CampaignStatus.PAUSED, CampaignStatus.SENDING):
        await ledger.messages(await ledger.campaign(status=status), device, 10)

    assert (await lanes.plan(device)).action is LaneAction.SEND


async def test_a_lane_sleeps_until_the_earliest_of_its_messages(lanes: Lanes, ledger: Ledger) -> None:
    device = await ledger.device()
    for seconds in (300, 60, 120):
        await ledger.messages(await ledger.campaign(), device, scheduled_at=after(seconds))
    async with ledger.sessions.begin() as session:
        await add_one_off(session, device, scheduled_at=after(200))

    assert (await lanes.plan(device)).until_at == after(60)


async def test_a_lane_that_waits_because_its_user_stopped_it_is_woken_by_resuming_alone(
    lanes: Lanes, ledger: Ledger, temporal_client: Client
) -> None:
    device, campaign = await ledger.device(), await ledger.campaign()
    await ledger.messages(campaign, device)
    await ledger.change(await ledger.lane(device), paused_at=NOW)
    assert await lanes.wake(device) == 1
    assert (await lanes.plan(device)).why == "stopped by the user"

    assert await lanes.wake(device) == 0
    await ledger.change(await ledger.lane(device), paused_at=None)
    assert await lanes.wake(device) == 1


async def test_a_restricted_lane_gives_new_chats_away_or_puts_them_off(lanes: Lanes, ledger: Ledger) -> None:
    restricted = await ledger.device(restricted_until_at=after(3600))
    owner = await ledger.campaign(device_strategy=DeviceStrategy.OWNER)
    [bound] = await ledger.messages(owner, restricted)

    assert (await lanes.plan(restricted)).action is LaneAction.FAIL_OVER
    assert (await lanes.fail_over(restricted)).moved == 0
    plan = await lanes.plan(restricted)
    assert (plan.action, plan.why, plan.until_at) == (LaneAction.WAIT, NEW_CHATS_HELD, after(3600))
    assert (await ledger.message(bound)).status is MessageStatus.PENDING

    other = await ledger.device()
    [free] = await ledger.messages(await ledger.campaign(), restricted)
    assert (await lanes.plan(restricted)).action is LaneAction.FAIL_OVER
    assert (await lanes.fail_over(restricted)).moved == 1
    assert (await ledger.message(free)).device_id == other.id
    assert (await lanes.plan(restricted)).action is LaneAction.WAIT
    await ledger.check()


async def test_a_lane_that_ends_tells_the_campaigns_that_it_has_drained(
    lanes: Lanes, ledger: Ledger, temporal_client: Client
) -> None:
    device = await ledger.device()
    drained, paused = await ledger.campaign(), await ledger.campaign(status=CampaignStatus.PAUSED)
    for campaign in (drained, paused):
        await ledger.messages(campaign, device, status=MessageStatus.SENT)

    assert (await lanes.plan(device)).action is LaneAction.END

    assert await signals_of_campaign(temporal_client, drained) == ["changed"]
    assert await signals_of_campaign(temporal_client, paused) == []


async def test_nobody_plans_the_lane_of_another(lanes: Lanes, ledger: Ledger) -> None:
    stranger = Ledger(ledger.sessions)
    await stranger.open()
    device = await ledger.device()

    with pytest.raises(NotFound):
        await lanes.plan(device, stranger.user.id)


async def test_failing_over_moves_everything_and_wakes_the_other_lanes(
    lanes: Lanes, ledger: Ledger, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "BATCH", 3)
    campaign, away = await ledger.campaign(), await ledger.device(status=DeviceStatus.OFFLINE, offline_since_at=after(-120))
    others = [await ledger.device() for _ in range(2)]
    await ledger.messages(campaign, away, 8)
    await ledger.change(await ledger.lane(others[0]), state=LaneState.RUNNING)

    assert await lanes.fail_over(away) == FailoverResult(moved=8, devices=2)

    assert await ledger.counts(campaign, away) == {}
    assert await signals_of_lane(temporal_client, others[0]) == []
    assert await signals_of_lane(temporal_client, others[1]) == ["wake"]
    await ledger.check()


async def test_a_device_that_came_back_before_its_messages_moved_keeps_them(lanes: Lanes, ledger: Ledger) -> None:
    away, _other = await ledger.device(status=DeviceStatus.OFFLINE, offline_since_at=after(-120)), await ledger.device()
    campaign = await ledger.campaign()
    await ledger.messages(campaign, away, 3)
    assert (await lanes.plan(away)).action is LaneAction.FAIL_OVER
    await ledger.change(away, status=DeviceStatus.ONLINE, offline_since_at=None)

    assert await lanes.fail_over(away) == FailoverResult(moved=0, devices=0)

    assert await ledger.counts(campaign, away) == {"pending": 3}


async def test_what_only_a_removed_device_could_send_fails_with_that_reason(lanes: Lanes, ledger: Ledger) -> None:
    removed, other = await ledger.device(), await ledger.device()
    bound, free = await ledger.campaign(device_strategy=DeviceStrategy.OWNER), await ledger.campaign()
    ids = await ledger.messages(bound, removed, 2)
    await ledger.messages(free, removed, 2)
    async with ledger.sessions.begin() as session:
        one_off = await add_one_off(session, removed)
    await ledger.change(removed, deleted_at=NOW, host_id=None)

    assert await lanes.fail_over(removed) == FailoverResult(moved=2, devices=1)

    for message_id in (*ids, one_off):
        message = await ledger.message(message_id)
        assert (message.status, message.error_code, message.is_retryable) == (MessageStatus.FAILED, "device_removed", False)
    assert await ledger.counts(free, other) == {"pending": 2}
    assert (await lanes.plan(removed)).action is LaneAction.END
    await ledger.check()


async def test_a_wake_signals_lanes_that_do_not_run_and_tells_their_hosts(
    lanes: Lanes, ledger: Ledger, temporal_client: Client, redis: Redis
) -> None:
    states = [LaneState.ASLEEP, LaneState.WAITING, LaneState.RUNNING]
    devices = [await ledger.device() for _ in states]
    for device, state in zip(devices, states, strict=True):
        await ledger.change(await ledger.lane(device), state=state)
    async with redis.pubsub() as channel:
        await channel.subscribe(NOTICES)
        await channel.get_message(timeout=1)

        assert await lanes.wake(*devices, *devices) == 2

        heard = [await channel.get_message(timeout=1) for _ in range(2)]
    assert sorted(message["data"] for message in heard if message) == sorted(str(device.id) for device in devices[:2])
    assert [await signals_of_lane(temporal_client, device) for device in devices] == [["wake"], ["wake"], []]
    for device in devices:
        lane = await ledger.lane(device)
        assert (lane.state, lane.waiting_for) == (LaneState.RUNNING, None)
    assert await lanes.wake() == 0


async def test_a_second_wake_before_the_lane_has_looked_signals_nobody(
    lanes: Lanes, ledger: Ledger, temporal_client: Client
) -> None:
    device = await ledger.device()

    assert [await lanes.wake(device) for _ in range(3)] == [1, 0, 0]
    assert await signals_of_lane(temporal_client, device) == ["wake"]


async def test_a_row_that_is_written_after_a_lane_looked_and_before_it_ended_wakes_it(
    lanes: Lanes, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, campaign = await ledger.device(), await ledger.campaign()
    await ledger.change(await ledger.lane(device), state=LaneState.RUNNING)
    looked = asyncio.Event()

    async def look_slowly(session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime) -> LaneStanding:
        standing = await lane_standing(session, user_id, device_id, now)
        looked.set()
        await asyncio.sleep(0.3)
        return standing

    monkeypatch.setattr("activities.lanes.lane_standing", look_slowly)
    plan = asyncio.create_task(lanes.plan(device))
    await looked.wait()
    await ledger.messages(campaign, device)

    assert await lanes.wake(device) == 1
    assert (await plan).action is LaneAction.END
    assert (await ledger.lane(device)).state is LaneState.RUNNING


@pytest.mark.parametrize("seed", range(3))
async def test_no_wake_is_lost_whenever_rows_are_written_while_a_lane_looks(lanes: Lanes, ledger: Ledger, seed: int) -> None:
    """Whatever interleaves: once all is done, either the lane knows of the last row, or it has been signalled.

    The lane is played by one task that plans until it ends, sends what it finds, and comes back when it is signalled.
    """
    device, campaign = await ledger.device(), await ledger.campaign()
    shuffle = random.Random(seed)
    signalled = asyncio.Event()
    sent = 0

    async def lane() -> None:
        nonlocal sent
        while True:
            while (claim := await ledger.claim(device)) is not None:
                await ledger.record(record_of(claim))
                sent += 1
            await asyncio.sleep(shuffle.random() / 200)
            signalled.clear()
            if (await lanes.plan(device)).action is LaneAction.SEND:
                continue
            await signalled.wait()

    async def write() -> None:
        for _ in range(12):
            await asyncio.sleep(shuffle.random() / 50)
            await ledger.messages(campaign, device)
            await asyncio.sleep(shuffle.random() / 100)
            if await lanes.wake(device):
                signalled.set()

    running = asyncio.create_task(lane())
    await asyncio.gather(write(), write())
    await eventually(lambda: sent == 24)
    running.cancel()
    assert await ledger.counts(campaign) == {"sent": 24}
