"""What a campaign's workflow does next, and its retries and cancellations."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.campaigns import CampaignActivities
from activities.resources import Resources
from siaran.contracts import CampaignAction, CampaignInput, CampaignPlan, RetryInput
from siaran.errors import NotFound
from siaran.ledger import endings
from siaran.models import Campaign, CampaignRetry, CampaignStatus, Device, LaneState, MessageStatus
from tests.activities.conftest import HandClock
from tests.activities.lanes_seen import signals_of_lane
from tests.factories import NOW, after
from tests.ledger.driver import Ledger, record_of


class Campaigns:
    """The activities of campaigns, with what tests ask of rows."""

    def __init__(self, ledger: Ledger, resources: Resources, environment: ActivityEnvironment) -> None:
        self._activities = CampaignActivities(resources)
        self._run = environment.run
        self._ledger = ledger
        self.client = resources.client

    async def plan(self, campaign: Campaign) -> CampaignPlan:
        plan: CampaignPlan = await self._run(self._activities.plan_campaign, CampaignInput(campaign.id, campaign.user_id))
        return plan

    async def cancel(self, campaign: Campaign) -> int:
        cancelled: int = await self._run(self._activities.cancel_pending, CampaignInput(campaign.id, campaign.user_id))
        return cancelled

    async def rebalance(self, campaign: Campaign) -> int:
        moved: int = await self._run(self._activities.rebalance, CampaignInput(campaign.id, campaign.user_id))
        return moved

    async def request(self, campaign: Campaign, **fields: Any) -> CampaignRetry:
        async with self._ledger.sessions.begin() as session:
            request = CampaignRetry(
                campaign_id=campaign.id,
                user_id=campaign.user_id,
                requested_by=campaign.user_id,
                **{"requested_at": after(60), **fields},
            )
            session.add(request)
        return request

    async def retry(self, request: CampaignRetry) -> int:
        queued: int = await self._run(
            self._activities.retry_failed, RetryInput(request.campaign_id, request.user_id, request.id)
        )
        return queued

    async def row(self, campaign: Campaign) -> Campaign:
        async with self._ledger.sessions() as session:
            return await session.get_one(Campaign, campaign.id)

    async def retry_row(self, retry_id: UUID) -> CampaignRetry:
        async with self._ledger.sessions() as session:
            return await session.get_one(CampaignRetry, retry_id)


@pytest.fixture
def campaigns(ledger: Ledger, resources: Resources, environment: ActivityEnvironment) -> Campaigns:
    """The activities of campaigns."""
    return Campaigns(ledger, resources, environment)


async def end_all(ledger: Ledger, device: Device, status: MessageStatus, *, at: float = 0) -> None:
    """Let every due message of the device end like that."""
    while (claim := await ledger.claim(device, at=after(at))) is not None:
        if not claim.is_suppressed:
            await ledger.record(record_of(claim, status, error_code="e1", is_retryable=True, at=after(at)))


async def test_a_scheduled_campaign_sleeps_until_its_time_and_then_expands(
    campaigns: Campaigns, ledger: Ledger, clock: HandClock
) -> None:
    campaign = await ledger.campaign(status=CampaignStatus.SCHEDULED, scheduled_at=after(3600), expanded_at=None)

    plan = await campaigns.plan(campaign)
    assert (plan.action, plan.until_at, plan.status) == (CampaignAction.SLEEP, after(3600), "scheduled")
    clock.now = after(3600)
    plan = await campaigns.plan(campaign)

    assert (plan.action, plan.status) == (CampaignAction.EXPAND, "sending")
    row = await campaigns.row(campaign)
    assert (row.status, row.started_at) == (CampaignStatus.SENDING, after(3600))


async def test_a_paused_campaign_sleeps_until_somebody_signals(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(status=CampaignStatus.PAUSED), await ledger.device()
    await ledger.messages(campaign, device)

    plan = await campaigns.plan(campaign)

    assert (plan.action, plan.until_at, plan.pending) == (CampaignAction.SLEEP, None, 1)


async def test_a_campaign_ends_when_every_message_has_ended(campaigns: Campaigns, ledger: Ledger) -> None:
    device = await ledger.device()
    for ends, status, reason in (
        ([MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.UNKNOWN], "sent", ""),
        ([MessageStatus.READ], "sent", ""),
        ([MessageStatus.FAILED, MessageStatus.UNKNOWN], "failed", "no message could be sent"),
        ([MessageStatus.SUPPRESSED], "failed", "every matching lead has opted out"),
        ([MessageStatus.SUPPRESSED, MessageStatus.SENT], "sent", ""),
        ([], "failed", "no lead matches the niche and target status"),
    ):
        campaign = await ledger.campaign()
        for end in ends:
            await ledger.messages(campaign, device, status=end)

        plan = await campaigns.plan(campaign)

        assert (plan.action, plan.status, plan.reason, plan.done) == (CampaignAction.END, status, reason, len(ends))
        row = await campaigns.row(campaign)
        assert (row.status, row.completed_at) == (CampaignStatus(status), NOW)
        assert (await campaigns.plan(campaign)).action is CampaignAction.END


@pytest.mark.parametrize("still", [MessageStatus.PENDING, MessageStatus.CLAIMED])
async def test_a_campaign_is_not_sent_while_a_message_is_open(
    campaigns: Campaigns, ledger: Ledger, still: MessageStatus
) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 3, status=MessageStatus.SENT)
    await ledger.messages(campaign, device, status=still)

    plan = await campaigns.plan(campaign)

    assert (plan.action, plan.status, plan.pending, plan.done) == (CampaignAction.FOLLOW, "sending", 1, 3)
    assert plan.until_at is not None
    assert timedelta(0) < plan.until_at - NOW <= timedelta(seconds=30)


async def test_a_campaign_is_not_sent_while_a_retry_is_asked_for(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, status=MessageStatus.SENT)
    await campaigns.request(campaign)

    assert (await campaigns.plan(campaign)).action is CampaignAction.FOLLOW


async def test_a_campaign_waits_when_all_its_lanes_do_and_says_for_what(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, devices = await ledger.campaign(), [await ledger.device() for _ in range(2)]
    for device in devices:
        await ledger.messages(campaign, device)
    waiting = {"state": LaneState.WAITING, "waiting_for": "device offline", "waiting_until_at": after(60)}
    await ledger.change(await ledger.lane(devices[0]), **waiting)
    await ledger.change(await ledger.lane(devices[1]), state=LaneState.RUNNING)
    assert (await campaigns.plan(campaign)).status == "sending"

    await ledger.change(await ledger.lane(devices[1]), **waiting)
    plan = await campaigns.plan(campaign)

    assert (plan.status, plan.reason) == ("waiting", "every device with messages of this campaign waits: device offline")
    await ledger.change(await ledger.lane(devices[0]), state=LaneState.RUNNING, waiting_for=None)
    assert (await campaigns.plan(campaign)).status == "sending"


async def test_a_campaign_wakes_lanes_that_nobody_told_of_its_messages(campaigns: Campaigns, ledger: Ledger) -> None:
    """Whoever wrote the messages, or resumed the campaign, may have died before the wake."""
    campaign, done = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, done, status=MessageStatus.SENT)
    cases = [
        (LaneState.ASLEEP, None, True),
        (LaneState.WAITING, "campaign paused", True),
        (LaneState.WAITING, "next message due", True),
        (LaneState.WAITING, "device offline", False),
        (LaneState.WAITING, "cap of the device", False),
        (LaneState.RUNNING, None, False),
    ]
    devices = [await ledger.device() for _ in cases]
    for device, (state, waiting_for, _) in zip(devices, cases, strict=True):
        await ledger.messages(campaign, device)
        await ledger.change(await ledger.lane(device), state=state, waiting_for=waiting_for)

    await campaigns.plan(campaign)

    for device, (state, waiting_for, woken) in zip(devices, cases, strict=True):
        assert await signals_of_lane(campaigns.client, device) == (["wake"] if woken else []), waiting_for
        assert (await ledger.lane(device)).state == (LaneState.RUNNING if woken else state)
    assert await signals_of_lane(campaigns.client, done) == []


async def test_a_paused_campaign_wakes_nobody(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(status=CampaignStatus.PAUSED), await ledger.device()
    await ledger.messages(campaign, device)

    await campaigns.plan(campaign)

    assert await signals_of_lane(campaigns.client, device) == []


async def test_a_cancelled_campaign_cancels_what_is_pending_and_waits_for_what_is_claimed(
    campaigns: Campaigns, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "BATCH", 2)
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 6)
    claim = await ledger.claimed(device)
    await ledger.change(campaign, status=CampaignStatus.CANCELLED)

    assert (await campaigns.plan(campaign)).action is CampaignAction.SETTLE_CANCELLED
    assert await campaigns.cancel(campaign) == 5
    assert (await campaigns.plan(campaign)).action is CampaignAction.FOLLOW
    await ledger.record(record_of(claim))

    plan = await campaigns.plan(campaign)
    assert (plan.action, plan.status) == (CampaignAction.END, "cancelled")
    assert await ledger.counts(campaign) == {"sent": 1, "cancelled": 5}
    await ledger.check()


async def test_a_retry_reopens_an_ended_campaign_and_wakes_its_lanes(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, device, other = await ledger.campaign(), await ledger.device(), await ledger.device()
    await ledger.messages(campaign, device, 3)
    await ledger.messages(campaign, other, status=MessageStatus.SENT)
    await end_all(ledger, device, MessageStatus.FAILED)
    assert (await campaigns.plan(campaign)).status == "sent"
    request = await campaigns.request(campaign)

    assert await campaigns.retry(request) == 3

    row = await campaigns.row(campaign)
    assert (row.status, row.completed_at) == (CampaignStatus.SENDING, None)
    done = await campaigns.retry_row(request.id)
    assert (done.queued, done.done_at) == (3, NOW)
    assert await signals_of_lane(campaigns.client, device) == ["wake"]
    assert await signals_of_lane(campaigns.client, other) == []
    assert await ledger.counts(campaign) == {"pending": 3, "sent": 1}
    await ledger.check()


async def test_a_retry_request_is_carried_out_once(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 3)
    await end_all(ledger, device, MessageStatus.FAILED)
    request = await campaigns.request(campaign)
    assert await campaigns.retry(request) == 3
    await end_all(ledger, device, MessageStatus.FAILED, at=61)

    assert await campaigns.retry(request) == 0

    assert await ledger.counts(campaign) == {"failed": 3}
    assert (await campaigns.retry_row(request.id)).queued == 3


async def test_a_retry_that_was_interrupted_goes_on_and_counts_all_it_queued(
    campaigns: Campaigns, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "BATCH", 2)
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device, 5)
    await end_all(ledger, device, MessageStatus.FAILED)
    request = await campaigns.request(campaign)

    def stop_after_one(*_: object) -> None:
        raise InterruptedError

    interrupted = ActivityEnvironment()
    interrupted.on_heartbeat = stop_after_one
    with pytest.raises(InterruptedError):
        await interrupted.run(campaigns._activities.retry_failed, RetryInput(campaign.id, campaign.user_id, request.id))
    assert await ledger.counts(campaign) == {"pending": 2, "failed": 3}

    assert await campaigns.retry(request) == 3

    assert (await campaigns.retry_row(request.id)).queued == 5
    assert await ledger.counts(campaign) == {"pending": 5}
    await ledger.check()


@pytest.mark.parametrize("end", [{"status": CampaignStatus.CANCELLED}, {"deleted_at": NOW}], ids=["cancelled", "deleted"])
async def test_a_campaign_that_was_cancelled_or_deleted_is_not_retried(
    campaigns: Campaigns, ledger: Ledger, end: dict[str, Any]
) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await end_all(ledger, device, MessageStatus.FAILED)
    request = await campaigns.request(campaign)
    await ledger.change(campaign, **end)

    assert await campaigns.retry(request) == 0
    assert (await campaigns.retry_row(request.id)).done_at == NOW
    assert await ledger.counts(campaign) == {"failed": 1}


async def test_a_paused_campaign_takes_up_a_retry_and_sends_it_once_resumed(campaigns: Campaigns, ledger: Ledger) -> None:
    campaign, device = await ledger.campaign(), await ledger.device()
    await ledger.messages(campaign, device)
    await end_all(ledger, device, MessageStatus.FAILED)
    await ledger.change(campaign, status=CampaignStatus.PAUSED)

    assert await campaigns.retry(await campaigns.request(campaign)) == 1

    assert (await campaigns.row(campaign)).status is CampaignStatus.PAUSED
    assert await ledger.claim(device, at=after(120)) is None


async def test_nobody_plans_or_retries_the_campaign_of_another(
    campaigns: Campaigns, ledger: Ledger, temporal_client: Client
) -> None:
    stranger = Ledger(ledger.sessions)
    await stranger.open()
    campaign = await ledger.campaign()
    request = await campaigns.request(campaign)

    with pytest.raises(NotFound):
        await campaigns._run(campaigns._activities.plan_campaign, CampaignInput(campaign.id, stranger.user.id))
    with pytest.raises(NotFound):
        await campaigns._run(campaigns._activities.retry_failed, RetryInput(campaign.id, stranger.user.id, request.id))
