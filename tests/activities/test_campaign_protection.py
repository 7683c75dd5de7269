"""Canary, stop-loss, rebalancing, and huge audiences that make room for others."""

import pytest
from temporalio.testing import ActivityEnvironment

from activities import audience
from activities.audience import AudienceActivities
from activities.resources import Resources
from siaran.campaigns import resume_campaign
from siaran.contracts import CampaignAction, CampaignInput, CampaignPlan, ExpansionResult
from siaran.ledger import balance
from siaran.models import (
    Campaign,
    CampaignStatus,
    Device,
    DeviceStatus,
    DeviceStrategy,
    LaneState,
    MessageStatus,
    Suppression,
)
from siaran.stop_loss import CANARY_WATCH
from tests.activities.conftest import HandClock
from tests.activities.lanes_seen import signals_of_lane
from tests.activities.test_campaigns import Campaigns, campaigns, end_all
from tests.factories import NOW, add_lead, after
from tests.ledger.driver import Ledger, record_of

__all__ = ["campaigns"]


class Audience:
    """The expansion of audiences."""

    def __init__(self, resources: Resources, environment: ActivityEnvironment) -> None:
        self._activities = AudienceActivities(resources)
        self._run = environment.run

    async def expand(self, campaign: Campaign) -> ExpansionResult:
        result: ExpansionResult = await self._run(
            self._activities.expand_audience, CampaignInput(campaign.id, campaign.user_id)
        )
        return result


@pytest.fixture
def leads(resources: Resources, environment: ActivityEnvironment) -> Audience:
    """Expands audiences."""
    return Audience(resources, environment)


async def add_leads(ledger: Ledger, number: int) -> None:
    async with ledger.sessions.begin() as session:
        for _ in range(number):
            await add_lead(session, ledger.user)


async def end_some(ledger: Ledger, device: Device, status: MessageStatus, number: int) -> None:
    """Let so many due messages of the device end like that."""
    for _ in range(number):
        await ledger.record(record_of(await ledger.claimed(device), status))


async def opt_out(ledger: Ledger, campaign: Campaign, number: int) -> None:
    async with ledger.sessions.begin() as session:
        for position in range(number):
            session.add(
                Suppression(
                    user_id=ledger.user.id,
                    phone=f"60190{position:06d}",
                    reason="STOP",
                    source="reply",
                    campaign_id=campaign.id,
                )
            )


async def plan_after(campaigns: Campaigns, campaign: Campaign) -> tuple[CampaignPlan, Campaign]:
    return await campaigns.plan(campaign), await campaigns.row(campaign)


async def test_a_canary_goes_out_alone_and_the_rest_follows_when_it_went_well(
    campaigns: Campaigns, leads: Audience, ledger: Ledger, clock: HandClock
) -> None:
    await add_leads(ledger, 12)
    device = await ledger.device()
    campaign = await ledger.campaign(canary_size=5, expanded_at=None)

    assert (await campaigns.plan(campaign)).action is CampaignAction.EXPAND
    assert (await leads.expand(campaign)).messages == 5
    plan = await campaigns.plan(campaign)
    assert (plan.action, plan.pending) == (CampaignAction.FOLLOW, 5)
    assert (await leads.expand(campaign)).messages == 0

    await end_some(ledger, device, MessageStatus.SENT, 4)
    await end_some(ledger, device, MessageStatus.FAILED, 1)
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.canary_passed_at, row.expanded_at) == (CampaignAction.EXPAND, NOW, None)
    assert (await leads.expand(campaign)).messages == 7
    await end_all(ledger, device, MessageStatus.SENT)
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status) == (CampaignAction.END, CampaignStatus.SENT)
    await ledger.check()


async def test_a_canary_that_fails_stops_the_campaign_and_who_resumes_it_sends_the_rest(
    campaigns: Campaigns, leads: Audience, ledger: Ledger
) -> None:
    await add_leads(ledger, 12)
    device = await ledger.device()
    campaign = await ledger.campaign(canary_size=5, expanded_at=None)
    await leads.expand(campaign)
    await end_some(ledger, device, MessageStatus.SENT, 3)
    await end_some(ledger, device, MessageStatus.FAILED, 2)

    plan, row = await plan_after(campaigns, campaign)

    assert (plan.action, row.status) == (CampaignAction.SLEEP, CampaignStatus.PAUSED)
    assert row.status_reason == "stopped by itself: 2 of 5 messages failed, 20 % may"
    async with ledger.sessions.begin() as session:
        await resume_campaign(session, ledger.user.id, campaign.id, NOW)
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status) == (CampaignAction.EXPAND, CampaignStatus.SENDING)
    assert (await leads.expand(campaign)).messages == 7


async def test_a_canary_with_a_limit_of_opt_outs_is_watched_before_the_rest_follows(
    campaigns: Campaigns, leads: Audience, ledger: Ledger, clock: HandClock
) -> None:
    await add_leads(ledger, 12)
    device = await ledger.device()
    campaign = await ledger.campaign(canary_size=5, stop_opted_out_percent=10, expanded_at=None)
    await leads.expand(campaign)
    await end_some(ledger, device, MessageStatus.SENT, 5)

    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status, row.status_reason) == (
        CampaignAction.FOLLOW,
        CampaignStatus.WAITING,
        "the first messages are out: watching who opts out",
    )
    await opt_out(ledger, campaign, 1)
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status) == (CampaignAction.SLEEP, CampaignStatus.PAUSED)
    async with ledger.sessions.begin() as session:
        await resume_campaign(session, ledger.user.id, campaign.id, NOW)
    clock.now = NOW + CANARY_WATCH
    assert (await campaigns.plan(campaign)).action is CampaignAction.EXPAND


async def test_an_audience_smaller_than_the_canary_is_written_to_and_done(
    campaigns: Campaigns, leads: Audience, ledger: Ledger
) -> None:
    await add_leads(ledger, 2)
    device = await ledger.device()
    campaign = await ledger.campaign(canary_size=5, expanded_at=None)

    assert (await leads.expand(campaign)).messages == 2
    await end_all(ledger, device, MessageStatus.SENT)
    plan, row = await plan_after(campaigns, campaign)

    assert (plan.action, row.status) == (CampaignAction.END, CampaignStatus.SENT)


async def test_a_campaign_pauses_by_itself_when_too_much_fails_and_its_rest_is_not_claimed(
    campaigns: Campaigns, ledger: Ledger
) -> None:
    device = await ledger.device()
    campaign = await ledger.campaign(stop_failed_percent=10)
    await ledger.messages(campaign, device, 40)
    await end_some(ledger, device, MessageStatus.SENT, 17)
    await end_some(ledger, device, MessageStatus.FAILED, 2)
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status) == (CampaignAction.FOLLOW, CampaignStatus.SENDING)

    await end_some(ledger, device, MessageStatus.FAILED, 1)
    plan, row = await plan_after(campaigns, campaign)

    assert (plan.action, row.status) == (CampaignAction.SLEEP, CampaignStatus.PAUSED)
    assert row.status_reason == "stopped by itself: 3 of 20 messages failed, 10 % may"
    assert await ledger.claim(device) is None
    async with ledger.sessions.begin() as session:
        await resume_campaign(session, ledger.user.id, campaign.id, NOW)
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status) == (CampaignAction.FOLLOW, CampaignStatus.SENDING)


async def test_a_campaign_pauses_by_itself_also_while_its_audience_is_still_being_written(
    campaigns: Campaigns, leads: Audience, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "PAGE", 10)
    monkeypatch.setattr(audience, "MOST_PAGES", 3)
    await add_leads(ledger, 40)
    device = await ledger.device()
    campaign = await ledger.campaign(stop_failed_percent=10, expanded_at=None)
    assert (await leads.expand(campaign)).has_more
    await end_some(ledger, device, MessageStatus.SENT, 17)
    assert (await campaigns.plan(campaign)).action is CampaignAction.EXPAND

    await end_some(ledger, device, MessageStatus.FAILED, 3)
    plan, row = await plan_after(campaigns, campaign)

    assert (plan.action, row.status) == (CampaignAction.SLEEP, CampaignStatus.PAUSED)
    async with ledger.sessions.begin() as session:
        await resume_campaign(session, ledger.user.id, campaign.id, NOW)
    assert (await campaigns.plan(campaign)).action is CampaignAction.EXPAND
    assert (await leads.expand(campaign)).messages == 10


async def test_what_fails_again_after_a_stop_and_a_retry_is_judged_again(campaigns: Campaigns, ledger: Ledger) -> None:
    device = await ledger.device()
    campaign = await ledger.campaign(stop_failed_percent=10)
    await ledger.messages(campaign, device, 20, status=MessageStatus.FAILED, is_retryable=True, claimed_at=NOW)
    await ledger.messages(campaign, device)
    assert (await campaigns.plan(campaign)).action is CampaignAction.SLEEP
    async with ledger.sessions.begin() as session:
        await resume_campaign(session, ledger.user.id, campaign.id, NOW)

    assert len(await ledger.retry(campaign, after(60))) == 20
    assert (await campaigns.plan(campaign)).status == "sending"
    for _ in range(20):
        await ledger.record(record_of(await ledger.claimed(device, at=after(61)), MessageStatus.FAILED))
    plan, row = await plan_after(campaigns, campaign)

    assert (plan.action, row.status_reason) == (CampaignAction.SLEEP, "stopped by itself: 20 of 20 messages failed, 10 % may")


async def test_a_device_that_comes_back_takes_over_its_share(
    campaigns: Campaigns, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "BATCH", 7)
    campaign = await ledger.campaign()
    busy, back = await ledger.device(), await ledger.device(status=DeviceStatus.OFFLINE)
    await ledger.messages(campaign, busy, 40)
    assert (await campaigns.plan(campaign)).action is CampaignAction.FOLLOW

    await ledger.change(back, status=DeviceStatus.ONLINE)
    assert (await campaigns.plan(campaign)).action is CampaignAction.REBALANCE
    assert await campaigns.rebalance(campaign) == 20

    assert await ledger.counts(campaign, busy) == {"pending": 20}
    assert await ledger.counts(campaign, back) == {"pending": 20}
    assert (await campaigns.plan(campaign)).action is CampaignAction.FOLLOW
    assert await campaigns.rebalance(campaign) == 0
    await ledger.check()


async def test_messages_that_are_bound_to_a_device_are_not_shared_out(campaigns: Campaigns, ledger: Ledger) -> None:
    busy, idle = await ledger.device(), await ledger.device()
    phones = [f"60123{number:06d}" for number in range(40)]
    await ledger.messages(await ledger.campaign(), busy, phones, status=MessageStatus.SENT, sent_at=after(-60))
    for columns in ({"device_strategy": DeviceStrategy.OWNER}, {"device_id": busy.id}):
        campaign = await ledger.campaign(**columns)
        await ledger.messages(campaign, busy, phones)
        assert (await campaigns.plan(campaign)).action is CampaignAction.FOLLOW
    sticky = await ledger.campaign(device_strategy=DeviceStrategy.STICKY)
    await ledger.messages(sticky, busy, phones)

    assert await campaigns.rebalance(sticky) == 0
    assert await ledger.counts(sticky, idle) == {}


async def test_a_campaign_says_what_it_waits_for_and_wakes_forgotten_lanes_also_where_its_devices_are_uneven(
    campaigns: Campaigns, ledger: Ledger
) -> None:
    busy = await ledger.device()
    await ledger.device()
    phones = [f"60123{number:06d}" for number in range(40)]
    campaign = await ledger.campaign(device_strategy=DeviceStrategy.STICKY)
    await ledger.messages(campaign, busy, phones)
    lane = await ledger.lane(busy)

    await ledger.change(lane, state=LaneState.WAITING, waiting_for="quiet hours", waiting_until_at=after(3600))
    plan, row = await plan_after(campaigns, campaign)
    assert (plan.action, row.status) == (CampaignAction.REBALANCE, CampaignStatus.WAITING)
    assert row.status_reason == "every device with messages of this campaign waits: quiet hours"
    assert plan.until_at == after(10)

    await ledger.change(lane, state=LaneState.ASLEEP, waiting_for=None, waiting_until_at=None)
    assert (await campaigns.plan(campaign)).status == "sending"
    assert await signals_of_lane(campaigns.client, busy) == ["wake"]


async def test_a_huge_audience_makes_room_for_others_and_goes_on(
    leads: Audience, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "PAGE", 2)
    monkeypatch.setattr(audience, "MOST_PAGES", 3)
    await add_leads(ledger, 7)
    await ledger.device()
    campaign = await ledger.campaign(expanded_at=None)

    first, second = await leads.expand(campaign), await leads.expand(campaign)

    assert (first.messages, first.finished, first.has_more) == (6, False, True)
    assert (second.messages, second.finished, second.has_more) == (1, True, False)
