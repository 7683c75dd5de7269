"""What must hold of a user's messages once everything has come to rest."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select

from siaran.attempt_keys import secret_of
from siaran.clock import system_clock
from siaran.models import BroadcastMessage, Campaign, Lead, MessageAttempt, MessageStatus
from siaran.niches import parse_niches
from siaran.reconciliation import Reconciliation, ledger_rows, reconcile
from siaran.tenancy import select_owned
from tests.ledger.driver import Ledger
from tests.properties.marketer import Marketer

OPEN = (MessageStatus.PENDING, MessageStatus.CLAIMED)

UNDER_WAY = timedelta(seconds=1)
"""An attempt is dated by the beginning of its transmission; its claim, of which only the last is kept, is a little earlier."""


async def compare(who: Marketer) -> Reconciliation:
    """What the network accepted of this user's devices, what the ledger says, and who was to be written to."""
    devices = {UUID(device) for device in who.devices}
    transmissions = [one async for one in who.street.network.transmissions() if one.device_id in devices]
    async with who.street.sessions() as session:
        rows = await ledger_rows(session, who.user.id, who.campaigns, secret_of(who.street.settings))
        campaigns = list(await session.scalars(select_owned(Campaign, who.user.id)))
    wanted = [(campaign.id, lead.phone) for campaign in campaigns for lead in _audience(who, campaign)]
    return reconcile(wanted, transmissions, rows)


def _audience(who: Marketer, campaign: Campaign) -> list[Lead]:
    if campaign.expanded_at is None:
        # All of it is written in one page, or none.
        return []
    tags = set(parse_niches(campaign.niche))
    return [lead for lead in who.leads if not tags or tags & set(lead.niches)]


async def check(who: Marketer) -> None:
    """Everything that must hold once all is at rest."""
    comparison = await compare(who)
    assert comparison.is_clean, f"{who}: {comparison}"
    await _check_rows(who)
    await check_stops(who)
    await _check_reports(who)


async def _check_rows(who: Marketer) -> None:
    """No campaign has ended with something open, and the counters say what the rows say."""
    still_open = select(func.count()).where(BroadcastMessage.user_id == who.user.id, BroadcastMessage.status.in_(OPEN))
    async with who.street.sessions() as session:
        assert await session.scalar(still_open) == 0, str(who)
    ledger = Ledger(who.street.sessions)
    ledger.user = who.user
    await ledger.check()


async def check_stops(who: Marketer) -> None:
    """Nothing was claimed while its campaign was stopped, or after its recipient had opted out."""
    query = (
        select(BroadcastMessage, MessageAttempt.attempt, MessageAttempt.attempted_at)
        .join(MessageAttempt, MessageAttempt.message_id == BroadcastMessage.id)
        .where(BroadcastMessage.user_id == who.user.id)
    )
    async with who.street.sessions() as session:
        attempts = (await session.execute(query)).all()
    stops, opt_outs = who.stopped.close(), who.opted_out.close()
    for message, attempt, attempted_at in attempts:
        is_last_claim = attempt == message.attempt and message.status is not MessageStatus.SUPPRESSED
        claimed_at = (message.claimed_at or attempted_at) if is_last_claim else attempted_at - UNDER_WAY
        for span in (*stops[message.campaign_id], *opt_outs[message.recipient_phone]):
            assert not span.holds(claimed_at), f"{who}: message {message.id} was claimed at {claimed_at} within {span}"


async def _check_reports(who: Marketer) -> None:
    """Every report of a campaign counts the same messages, and its parts add up."""
    totals: Counter[str] = Counter()
    for campaign in who.campaigns:
        rows = Counter(row["status"] for row in await who.list_all(f"/api/campaigns/{campaign}/messages"))
        assert not rows["pending"], str(who)
        report = await who.ask("GET", f"/api/campaigns/{campaign}/device-report")
        for row in (report, *report["devices"]):
            parts = [row[name] for name in ("pendingLeads", "successLeads", "failedLeads", "suppressedLeads", "cancelledLeads")]
            assert sum(parts) == row["totalLeads"], (str(who), row)
        assert sum(row["totalLeads"] for row in report["devices"]) == report["totalLeads"] == rows.total(), str(who)
        counts = (await who.ask("GET", f"/api/campaigns/{campaign}"))["counts"]
        assert counts["total"] == rows.total(), (str(who), counts, rows)
        totals += Counter({name: number for name, number in counts.items() if isinstance(number, int)})
    today = system_clock().astimezone().date()
    span = {"from": (today - timedelta(days=2)).isoformat(), "to": (today + timedelta(days=4)).isoformat()}
    answer = await who.client.get("/api/campaigns/summary", params=span)
    summary = answer.json()["results"]
    assert summary["campaigns"]["total"] == len(who.campaigns), (str(who), summary)
    messages = summary["messages"]
    assert messages["total_messages"] == totals["total"], (str(who), messages, totals)
    outcomes = ("sent", "failed", "pending", "suppressed", "cancelled")
    assert sum(messages[f"{outcome}_messages"] for outcome in outcomes) == messages["total_messages"], (str(who), messages)
