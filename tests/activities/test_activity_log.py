"""What happens by itself is in the activity log too: starts and ends of campaigns, ends of imports."""

import pytest
from sqlalchemy import select

from activities.resources import Resources
from siaran.db import SessionMaker
from siaran.models import Activity, CampaignStatus, MessageStatus
from tests.activities.conftest import HandClock
from tests.activities.test_campaigns import Campaigns, end_all
from tests.activities.test_imports import Imports
from tests.factories import after
from tests.ledger.driver import Ledger


@pytest.fixture
def campaigns(ledger: Ledger, resources: Resources, environment) -> Campaigns:
    return Campaigns(ledger, resources, environment)


async def log_of(sessions: SessionMaker) -> list[Activity]:
    async with sessions() as session:
        return list(await session.scalars(select(Activity).order_by(Activity.id)))


async def test_start_and_end_of_a_campaign_are_noted_once(campaigns: Campaigns, ledger: Ledger, clock: HandClock):
    campaign, device = await ledger.campaign(status=CampaignStatus.SCHEDULED, scheduled_at=after(10)), await ledger.device()
    await ledger.messages(campaign, device, 2)
    await campaigns.plan(campaign)
    assert await log_of(ledger.sessions) == []
    clock.now = after(10)
    for _ in range(2):
        await campaigns.plan(campaign)
    await end_all(ledger, device, MessageStatus.SENT, at=10)
    for _ in range(2):
        await campaigns.plan(campaign)
    started, sent = await log_of(ledger.sessions)
    assert (started.kind, sent.kind) == ("campaign.started", "campaign.sent")
    assert {started.subject, sent.subject} == {f"campaign:{campaign.id}"}
    assert sent.details == {"success": 2, "failed": 0, "total": 2}


async def test_an_import_is_noted_with_its_counts_and_a_dry_run_is_not(ledger: Ledger, resources: Resources):
    imports = Imports(resources, ledger.user)
    content = "name,phone\nSiti,0123456789\nAli,012-345 6780\nnobody,12\n"
    await imports.run(await imports.upload(content, is_dry_run=True))
    assert await log_of(ledger.sessions) == []
    row = await imports.upload(content)
    await imports.run(row)
    (line,) = await log_of(ledger.sessions)
    assert (line.kind, line.subject) == ("import.done", f"import:{row.id}")
    assert line.details == {"new": 2, "invalid": 1}
