"""The sweep: what a crash left undone is found, and what works is left alone."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.resources import Resources
from activities.sweeps import SweepActivities
from siaran.contracts import SweepResult
from siaran.incoming import KEPT
from siaran.lane_standing import NEXT_DUE, QUIET_HOURS
from siaran.models import CampaignRetry, CampaignStatus, DeviceStatus, IncomingMessage, LaneState, MessageStatus
from tests.activities.conftest import HandClock
from tests.activities.lanes_seen import signals_of_campaign, signals_of_lane
from tests.factories import NOW, add_one_off, after
from tests.ledger.driver import Ledger


@pytest.fixture
def sweeps(resources: Resources, environment: ActivityEnvironment, clock: HandClock) -> "Sweeps":
    """The sweep, five minutes after everything that tests write."""
    clock.now = after(300)
    return Sweeps(resources, environment)


class Sweeps:
    """The sweep's activity."""

    def __init__(self, resources: Resources, environment: ActivityEnvironment) -> None:
        self._activities = SweepActivities(resources)
        self._environment = environment

    async def sweep(self) -> SweepResult:
        result: SweepResult = await self._environment.run(self._activities.sweep)
        return result


async def age(ledger: Ledger, seconds: float = 300) -> None:
    """Let every row have been written so long ago, as the sweep's clock counts."""
    async with ledger.sessions.begin() as session:
        for table in ("campaigns", "lanes"):
            await session.execute(text(f"UPDATE {table} SET updated_at = :at"), {"at": after(300 - seconds)})


async def test_campaigns_that_somebody_forgot_are_nudged(sweeps: Sweeps, ledger: Ledger, temporal_client: Client) -> None:
    device = await ledger.device()
    forgotten = {
        "overdue": await ledger.campaign(status=CampaignStatus.SCHEDULED, expanded_at=None),
        "not expanded": await ledger.campaign(expanded_at=None),
        "all ended": await ledger.campaign(),
        "waits for nothing": await ledger.campaign(status=CampaignStatus.WAITING),
        "cancelled, not settled": await ledger.campaign(status=CampaignStatus.CANCELLED),
        "may have to stop by itself": await ledger.campaign(stop_failed_percent=10),
    }
    await ledger.messages(forgotten["all ended"], device, status=MessageStatus.SENT)
    await ledger.messages(forgotten["waits for nothing"], device, status=MessageStatus.FAILED)
    for why in ("cancelled, not settled", "may have to stop by itself"):
        await ledger.messages(forgotten[why], device)
    await age(ledger)

    assert (await sweeps.sweep()).campaigns == 6

    heard = {why: await signals_of_campaign(temporal_client, campaign) for why, campaign in forgotten.items()}
    assert all(signals == ["changed"] for signals in heard.values()), heard


async def test_campaigns_that_go_their_way_are_left_alone(sweeps: Sweeps, ledger: Ledger) -> None:
    device = await ledger.device()
    await ledger.campaign(status=CampaignStatus.SCHEDULED, scheduled_at=after(290), expanded_at=None)
    for status, message in (
        (CampaignStatus.SENDING, MessageStatus.CLAIMED),
        (CampaignStatus.PAUSED, MessageStatus.PENDING),
        (CampaignStatus.SENT, MessageStatus.SENT),
        (CampaignStatus.CANCELLED, MessageStatus.CANCELLED),
    ):
        await ledger.messages(await ledger.campaign(status=status), device, status=message)
    await age(ledger)

    assert (await sweeps.sweep()).campaigns == 0


async def test_a_retry_that_nobody_carried_out_is_asked_for_again(
    sweeps: Sweeps, ledger: Ledger, temporal_client: Client
) -> None:
    campaign = await ledger.campaign(status=CampaignStatus.FAILED)
    async with ledger.sessions.begin() as session:
        for done_at in (None, NOW):
            session.add(
                CampaignRetry(
                    campaign_id=campaign.id,
                    user_id=campaign.user_id,
                    requested_by=campaign.user_id,
                    requested_at=NOW,
                    done_at=done_at,
                )
            )

    assert (await sweeps.sweep()).campaigns == 1
    assert await signals_of_campaign(temporal_client, campaign) == ["retry_failed"]


@pytest.mark.parametrize("status", [MessageStatus.PENDING, MessageStatus.CLAIMED])
async def test_a_lane_that_sleeps_over_messages_is_woken(
    sweeps: Sweeps, ledger: Ledger, temporal_client: Client, status: MessageStatus
) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, status=status)
    if status is MessageStatus.CLAIMED:
        async with ledger.sessions.begin() as session:
            await session.execute(text("UPDATE broadcast_messages SET claimed_at = :at"), {"at": after(299)})

    assert (await sweeps.sweep()).lanes == 1
    assert await signals_of_lane(temporal_client, device) == ["wake"]
    assert (await ledger.lane(device)).state is LaneState.RUNNING


@pytest.mark.parametrize(("why", "woken"), [(QUIET_HOURS, 1), (NEXT_DUE, 1), ("cap of the device", 0)])
async def test_a_lane_that_waits_over_a_one_off_message_that_it_knows_nothing_of_is_woken(
    sweeps: Sweeps, ledger: Ledger, temporal_client: Client, why: str, woken: int
) -> None:
    device = await ledger.device()
    await ledger.messages(await ledger.campaign(), device)
    waits = {"state": LaneState.WAITING, "waiting_for": why, "waiting_until_at": after(30_000)}
    await ledger.change(await ledger.lane(device), **waits)
    assert (await sweeps.sweep()).lanes == 0

    async with ledger.sessions.begin() as session:
        await add_one_off(session, device)

    assert (await sweeps.sweep()).lanes == woken
    assert await signals_of_lane(temporal_client, device) == ["wake"] * woken


async def test_lanes_that_go_their_way_are_left_alone(sweeps: Sweeps, ledger: Ledger, temporal_client: Client) -> None:
    campaign = await ledger.campaign()
    lanes: dict[str, dict[str, Any]] = {
        "sends": {"state": LaneState.RUNNING, "last_activity_at": after(290)},
        "in a long gap": {"state": LaneState.RUNNING, "last_activity_at": after(100), "next_send_at": after(290)},
        "waits": {"state": LaneState.WAITING, "waiting_until_at": after(900)},
        "stopped": {"state": LaneState.ASLEEP, "paused_at": NOW},
        "stopped a moment ago": {"state": LaneState.RUNNING, "paused_at": NOW},
    }
    devices = {name: await ledger.device() for name in lanes}
    for name, columns in lanes.items():
        await ledger.messages(campaign, devices[name])
        await ledger.change(await ledger.lane(devices[name]), **columns)
    await age(ledger)

    assert (await sweeps.sweep()).lanes == 0
    assert [await signals_of_lane(temporal_client, device) for device in devices.values()] == [[]] * 5


async def test_a_sleeping_lane_with_nothing_due_is_left_alone(sweeps: Sweeps, ledger: Ledger, temporal_client: Client) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, scheduled_at=after(290))
    await ledger.messages(campaign, device, status=MessageStatus.SENT)

    assert (await sweeps.sweep()).lanes == 0
    assert await signals_of_lane(temporal_client, device) == []


async def test_a_lane_that_was_set_running_by_somebody_who_died_before_the_signal_is_woken(
    sweeps: Sweeps, ledger: Ledger, temporal_client: Client
) -> None:
    """No other waker would signal a running lane, and nothing runs."""
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await ledger.change(await ledger.lane(device), state=LaneState.RUNNING)
    await age(ledger, 30)
    assert (await sweeps.sweep()).lanes == 0

    await age(ledger, 90)
    assert (await sweeps.sweep()).lanes == 1

    assert await signals_of_lane(temporal_client, device) == ["wake"]


@pytest.mark.parametrize("state", [LaneState.RUNNING, LaneState.WAITING])
async def test_a_lane_that_has_been_stuck_for_ten_minutes_is_restarted(
    sweeps: Sweeps, ledger: Ledger, temporal_client: Client, clock: HandClock, state: LaneState
) -> None:
    clock.now = after(1000)
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await ledger.change(await ledger.lane(device), state=state, waiting_until_at=after(60), last_activity_at=NOW)
    await age(ledger)

    assert (await sweeps.sweep()).lanes == 1
    assert "moved" in await signals_of_lane(temporal_client, device)


@pytest.mark.parametrize("away", [{"host_id": None}, {"status": DeviceStatus.OFFLINE, "offline_since_at": NOW}])
async def test_a_lane_that_runs_without_a_device_is_told_to_look_again(
    sweeps: Sweeps, ledger: Ledger, temporal_client: Client, away: dict[str, Any]
) -> None:
    """Its send may have died with a host that nobody has replaced."""
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await ledger.claimed(device)
    await ledger.change(device, **away)
    await ledger.change(await ledger.lane(device), state=LaneState.RUNNING, last_activity_at=after(290))
    await age(ledger)
    await sweeps.sweep()
    assert await signals_of_lane(temporal_client, device) == []

    await ledger.change(await ledger.lane(device), last_activity_at=NOW)
    await age(ledger)
    await sweeps.sweep()

    assert "moved" in await signals_of_lane(temporal_client, device)


async def test_claims_of_the_dead_are_ended(sweeps: Sweeps, ledger: Ledger, clock: HandClock) -> None:
    clock.now = after(3600)
    campaign, device = await ledger.campaign(), await ledger.device()
    [message_id] = await ledger.messages(campaign, device)
    await ledger.claimed(device)
    await ledger.change(device, status=DeviceStatus.BANNED, host_id=None)

    assert (await sweeps.sweep()).stale_claims == 1

    assert await ledger.status(message_id) == MessageStatus.UNKNOWN
    await ledger.check()


async def test_a_sweep_on_a_quiet_day_finds_nothing(sweeps: Sweeps, ledger: Ledger) -> None:
    await ledger.device()
    await ledger.campaign(status=CampaignStatus.SCHEDULED, scheduled_at=NOW + timedelta(days=1), expanded_at=None)
    await age(ledger)

    assert await sweeps.sweep() == SweepResult(campaigns=0, lanes=0, stale_claims=0)


async def test_traces_of_incoming_messages_are_kept_for_as_long_as_they_may_come_again(sweeps: Sweeps, ledger: Ledger) -> None:
    device = await ledger.device()
    ages = {"old": KEPT + timedelta(hours=1), "young": KEPT - timedelta(hours=1)}
    async with ledger.sessions.begin() as session:
        for name, age_ in ages.items():
            day = (after(300) - age_).date()
            session.add(
                IncomingMessage(
                    user_id=device.user_id,
                    device_id=device.id,
                    sender="60123456789",
                    whatsapp_id=name,
                    day=day,
                    is_reply=False,
                    received_at=after(300) - age_,
                )
            )

    await sweeps.sweep()

    async with ledger.sessions() as session:
        assert [row.whatsapp_id for row in await session.scalars(select(IncomingMessage))] == ["young"]
