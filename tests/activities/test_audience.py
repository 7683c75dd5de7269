"""The expansion of audiences: who gets a message, from which device, once."""

from typing import Any

import pytest
from sqlalchemy import select
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities import audience
from activities.audience import NO_DEVICE, AudienceActivities, expand_page
from activities.lanes import LaneActivities
from activities.resources import Resources
from siaran.contracts import CampaignInput, ExpansionResult, LaneInput
from siaran.models import (
    BroadcastMessage,
    Campaign,
    CampaignStatus,
    Device,
    DeviceStatus,
    DeviceStrategy,
    Lead,
    MessageStatus,
    TargetStatus,
)
from tests.activities.lanes_seen import signals_of_lane
from tests.factories import NOW, add_lead, add_user, after
from tests.ledger.driver import Ledger


class Audience:
    """The expansion of one user's campaigns."""

    def __init__(self, ledger: Ledger, resources: Resources) -> None:
        self.ledger = ledger
        self._activities = AudienceActivities(resources)

    async def leads(self, count: int = 1, **columns: Any) -> list[Lead]:
        """Leads of the user."""
        async with self.ledger.sessions.begin() as session:
            return [await add_lead(session, self.ledger.user, **columns) for _ in range(count)]

    async def campaign(self, **columns: Any) -> Campaign:
        """A campaign that has just begun."""
        return await self.ledger.campaign(expanded_at=None, **columns)

    async def expand(self, campaign: Campaign, environment: ActivityEnvironment | None = None) -> ExpansionResult:
        """Run the activity."""
        run = (environment or ActivityEnvironment()).run
        order = CampaignInput(campaign.id, campaign.user_id)
        result: ExpansionResult = await run(self._activities.expand_audience, order)
        return result

    async def expand_page(self, campaign: Campaign) -> str:
        """Write one page; returns what follows."""
        async with self.ledger.sessions.begin() as session:
            return (await expand_page(session, CampaignInput(campaign.id, campaign.user_id), NOW)).state

    async def rows(self, campaign: Campaign) -> list[BroadcastMessage]:
        """The campaign's messages in their order."""
        query = select(BroadcastMessage).where(BroadcastMessage.campaign_id == campaign.id).order_by(BroadcastMessage.id)
        async with self.ledger.sessions() as session:
            return list(await session.scalars(query))

    async def phones(self, campaign: Campaign) -> list[str]:
        """To whom they go."""
        return [row.recipient_phone for row in await self.rows(campaign)]

    async def row(self, campaign: Campaign) -> Campaign:
        """The campaign as it stands now."""
        async with self.ledger.sessions() as session:
            return await session.get_one(Campaign, campaign.id)


@pytest.fixture
def audience_of(ledger: Ledger, resources: Resources) -> Audience:
    """The expansion of campaigns."""
    return Audience(ledger, resources)


def phones_of(leads: list[Lead]) -> list[str]:
    return [lead.phone for lead in leads]


async def test_every_lead_gets_one_message_and_the_devices_take_turns_across_pages(
    audience_of: Audience, ledger: Ledger, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "PAGE", 3)
    devices = [await ledger.device() for _ in range(2)]
    leads = await audience_of.leads(8, name="Siti", niche="EXSTART")
    campaign = await audience_of.campaign()

    assert await audience_of.expand(campaign) == ExpansionResult(messages=8, devices=2, finished=True)

    rows = await audience_of.rows(campaign)
    assert [row.recipient_phone for row in rows] == phones_of(leads)
    assert [row.device_id for row in rows] == [device.id for device in devices] * 4
    assert {(row.recipient_name, row.recipient_niche, row.status) for row in rows} == {("Siti", "EXSTART", "pending")}
    assert [row.lead_id for row in rows] == [lead.id for lead in leads]
    stored = await audience_of.row(campaign)
    assert (stored.expanded, stored.expanded_at) == (8, NOW)
    assert await ledger.counts(campaign) == {"pending": 8}
    assert [await signals_of_lane(temporal_client, device) for device in devices] == [["wake"]] * 2
    await ledger.check()


async def test_an_audience_is_expanded_once(audience_of: Audience, ledger: Ledger) -> None:
    await ledger.device()
    await audience_of.leads(2)
    campaign = await audience_of.campaign()
    await audience_of.expand(campaign)
    await audience_of.leads(2)

    assert await audience_of.expand(campaign) == ExpansionResult(messages=0, devices=0, finished=True)
    assert await ledger.counts(campaign) == {"pending": 2}


async def test_an_expansion_that_was_interrupted_goes_on_where_it_was(
    audience_of: Audience, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "PAGE", 3)
    await ledger.device()
    leads = await audience_of.leads(8)
    campaign = await audience_of.campaign()

    def die(*_: object) -> None:
        raise InterruptedError

    for _ in range(2):
        dying = ActivityEnvironment()
        dying.on_heartbeat = die
        with pytest.raises(InterruptedError):
            await audience_of.expand(campaign, dying)
        await ledger.check()

    assert (await audience_of.expand(campaign)).messages == 2
    assert await audience_of.phones(campaign) == phones_of(leads)
    assert (await audience_of.row(campaign)).expanded == 8
    await ledger.check()


async def test_a_campaign_that_is_paused_in_the_middle_is_expanded_to_the_end_once_it_goes_on(
    audience_of: Audience, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "PAGE", 3)
    await ledger.device()
    leads = await audience_of.leads(5)
    campaign = await audience_of.campaign()
    assert await audience_of.expand_page(campaign) == "more"
    paused = await audience_of.row(campaign)
    await ledger.change(paused, status=CampaignStatus.PAUSED)

    assert await audience_of.expand(campaign) == ExpansionResult(messages=0, devices=0, finished=False)
    await ledger.change(await audience_of.row(campaign), status=CampaignStatus.SENDING)
    assert (await audience_of.expand(campaign)).finished

    assert await audience_of.phones(campaign) == phones_of(leads)


async def test_an_audience_that_fills_its_last_page_exactly_ends(
    audience_of: Audience, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "PAGE", 3)
    await ledger.device()
    await audience_of.leads(6)
    campaign = await audience_of.campaign()

    assert (await audience_of.expand(campaign)).messages == 6
    assert (await audience_of.row(campaign)).expanded_at == NOW


async def test_an_audience_of_nobody_is_expanded(audience_of: Audience, ledger: Ledger) -> None:
    await ledger.device()
    campaign = await audience_of.campaign(niche="NOBODY")
    await audience_of.leads(2, niche="SOMEBODY")

    assert await audience_of.expand(campaign) == ExpansionResult(messages=0, devices=0, finished=True)


async def test_without_a_linked_device_a_campaign_waits_and_says_so(audience_of: Audience, ledger: Ledger) -> None:
    for unfit in ({"jid": None}, {"deleted_at": NOW}, {"status": DeviceStatus.BANNED}, {"is_active": False}):
        device = await ledger.device()
        await ledger.change(device, **unfit)
    await audience_of.leads(2)
    campaign = await audience_of.campaign()

    assert not (await audience_of.expand(campaign)).finished
    row = await audience_of.row(campaign)
    assert (row.status, row.status_reason) == (CampaignStatus.WAITING, NO_DEVICE)

    await ledger.device()
    assert (await audience_of.expand(campaign)).messages == 2
    row = await audience_of.row(campaign)
    assert (row.status, row.status_reason) == (CampaignStatus.SENDING, None)


@pytest.mark.parametrize(
    ("niche", "matched"),
    [
        ("ITADRESS", ["EXSTART,ITADRESS", "ITADRESS"]),
        ("itadress", ["EXSTART,ITADRESS", "ITADRESS"]),
        ("EXSTART", ["EXSTART,ITADRESS"]),
        ("ITAD", []),
        ("", ["EXSTART,ITADRESS", "ITADRESS", "ITADRESSX", ""]),
    ],
)
async def test_a_niche_matches_whole_tags_and_none_matches_everyone(
    audience_of: Audience, ledger: Ledger, niche: str, matched: list[str]
) -> None:
    await ledger.device()
    leads = {tags: (await audience_of.leads(niche=tags))[0].phone for tags in ("EXSTART,ITADRESS", "ITADRESS", "ITADRESSX", "")}
    campaign = await audience_of.campaign(niche=niche)

    await audience_of.expand(campaign)

    assert await audience_of.phones(campaign) == [leads[tags] for tags in matched]


async def test_only_leads_of_the_target_status_and_of_the_user_are_addressed(audience_of: Audience, ledger: Ledger) -> None:
    await ledger.device()
    await audience_of.leads(2, target_status=TargetStatus.PROSPECT)
    customers = await audience_of.leads(2, target_status=TargetStatus.CUSTOMER)
    async with ledger.sessions.begin() as session:
        stranger = await add_user(session)
        await add_lead(session, stranger, target_status=TargetStatus.CUSTOMER)
    campaign = await audience_of.campaign(target_status=TargetStatus.CUSTOMER)

    await audience_of.expand(campaign)

    assert await audience_of.phones(campaign) == phones_of(customers)


async def test_a_phone_that_has_its_message_already_gets_no_second_one(audience_of: Audience, ledger: Ledger) -> None:
    device = await ledger.device()
    [first, second] = await audience_of.leads(2)
    campaign = await audience_of.campaign()
    await ledger.messages(campaign, device, [first.phone], status=MessageStatus.SENT)

    assert (await audience_of.expand(campaign)).messages == 1

    assert await audience_of.phones(campaign) == [first.phone, second.phone]
    assert await ledger.counts(campaign) == {"pending": 1, "sent": 1}
    await ledger.check()


async def test_devices_that_can_send_get_everything_and_others_only_where_none_can(
    audience_of: Audience, ledger: Ledger
) -> None:
    offline, online = await ledger.device(status=DeviceStatus.OFFLINE), await ledger.device()
    restricted = await ledger.device(restricted_until_at=after(60))
    paused = await ledger.device()
    await ledger.change(await ledger.lane(paused), paused_at=NOW)
    await audience_of.leads(4)
    campaign, later = await audience_of.campaign(), await audience_of.campaign()

    await audience_of.expand(campaign)
    await ledger.change(online, status=DeviceStatus.CONNECTING)
    await audience_of.expand(later)

    assert await ledger.counts(campaign, online) == {"pending": 4}
    everyone = (offline, online, restricted, paused)
    assert [await ledger.counts(later, device) for device in everyone] == [{"pending": 1}] * 4


async def test_a_campaign_of_one_device_uses_no_other(audience_of: Audience, ledger: Ledger) -> None:
    _, own = await ledger.device(), await ledger.device(status=DeviceStatus.OFFLINE)
    await audience_of.leads(3)
    campaign = await audience_of.campaign(device_id=own.id)

    await audience_of.expand(campaign)

    assert await ledger.counts(campaign, own) == {"pending": 3}


async def test_a_campaign_whose_one_device_was_removed_fails_and_waits_for_no_other(
    audience_of: Audience, ledger: Ledger, resources: Resources
) -> None:
    await ledger.device()
    removed = await ledger.device(deleted_at=NOW, is_active=False, jid=None, host_id=None, status=DeviceStatus.LOGGED_OUT)
    await audience_of.leads(3)
    campaign = await audience_of.campaign(device_id=removed.id)

    assert (await audience_of.expand(campaign)).finished
    await ActivityEnvironment().run(LaneActivities(resources).fail_over, LaneInput(removed.id, ledger.user.id))

    rows = await audience_of.rows(campaign)
    assert [(row.status, row.error_code) for row in rows] == [(MessageStatus.FAILED, "device_removed")] * 3


async def test_sticky_goes_to_the_device_that_wrote_to_the_contact_last_and_is_balanced_for_others(
    audience_of: Audience, ledger: Ledger
) -> None:
    devices: list[Device] = [await ledger.device() for _ in range(3)]
    known, *new = await audience_of.leads(4)
    earlier = await ledger.campaign()
    for number, device in enumerate((devices[0], devices[2], devices[1])):
        sent_at = after(-10 * number)
        campaign_before = earlier if number == 0 else await ledger.campaign()
        await ledger.messages(campaign_before, device, [known.phone], status=MessageStatus.SENT, sent_at=sent_at)
    failed = await ledger.campaign()
    await ledger.messages(failed, devices[1], [known.phone], status=MessageStatus.FAILED)
    campaign = await audience_of.campaign(device_strategy=DeviceStrategy.STICKY)

    await audience_of.expand(campaign)

    placed = {row.recipient_phone: row.device_id for row in await audience_of.rows(campaign)}
    assert placed[known.phone] == devices[0].id
    assert len({placed[lead.phone] for lead in new}) == 3


async def test_owner_goes_to_the_leads_own_device_alone(audience_of: Audience, ledger: Ledger) -> None:
    own, other = await ledger.device(status=DeviceStatus.OFFLINE), await ledger.device()
    gone = await ledger.device(deleted_at=NOW)
    [bound] = await audience_of.leads(device_id=own.id)
    [homeless] = await audience_of.leads()
    [orphan] = await audience_of.leads(device_id=gone.id)
    campaign = await audience_of.campaign(device_strategy=DeviceStrategy.OWNER)

    await audience_of.expand(campaign)

    rows = {row.recipient_phone: row for row in await audience_of.rows(campaign)}
    assert (rows[bound.phone].device_id, rows[bound.phone].status) == (own.id, MessageStatus.PENDING)
    for lead in (homeless, orphan):
        row = rows[lead.phone]
        assert (row.status, row.error_code, row.is_retryable) == (MessageStatus.FAILED, "no_own_device", False)
    assert await ledger.counts(campaign, other) == {"failed": 2}
    assert await ledger.counts(campaign) == {"pending": 1, "failed": 2}
    await ledger.check()
