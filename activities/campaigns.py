"""Campaigns: which phase one is in, and carrying out what its workflow decides."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.resources import Resources
from siaran.activity_log import note_campaign
from siaran.campaign_progress import (
    FEW_INTERVAL,
    OpenRows,
    Totals,
    end_of,
    forgotten_lanes,
    next_look,
    open_rows,
    totals,
    waiting_reason,
)
from siaran.contracts import CampaignAction, CampaignInput, CampaignPlan, RetryInput
from siaran.lanes import wake_lanes
from siaran.ledger.balance import due_shifts, shift_batch
from siaran.ledger.endings import cancel_batch, retry_batch
from siaran.models import Campaign, CampaignRetry, CampaignStatus
from siaran.stop_loss import LOOK_EVERY, Outcomes, has_threshold, is_canary_out, outcomes_of, watch_until, why_stop
from siaran.tenancy import get_owned, update_owned
from siaran.webhook_events import targets_told
from siaran.webhook_news import announce_campaign
from siaran.webhook_signals import nudge_webhooks

NO_DEVICE_INTERVAL = timedelta(seconds=10)
UNDER_WAY = {CampaignStatus.SENDING, CampaignStatus.WAITING}
OVER = {CampaignStatus.SENT, CampaignStatus.FAILED}


class CampaignActivities:
    """Database activities of `CampaignWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources

    @activity.defn(name="plan_campaign")
    async def plan_campaign(self, campaign: CampaignInput) -> CampaignPlan:
        """Look at a campaign's row, move its phase on where it is time, and say what comes next."""
        now = self._use.clock()
        async with self._use.sessions.begin() as session:
            row = await get_owned(session, Campaign, campaign.user_id, Campaign.id == campaign.campaign_id, lock=True)
            rows = await open_rows(session, row.user_id, row.id)
            counts = await totals(session, row.user_id, row.id)
            action, until_at = await _next_step(session, row, rows, counts, now)
            plan = CampaignPlan(
                action, row.status.value, until_at, row.status_reason or "", counts.pending, counts.total - counts.pending
            )
            follows = action in {CampaignAction.FOLLOW, CampaignAction.REBALANCE} and row.status in UNDER_WAY
            forgotten = await forgotten_lanes(session, row.user_id, row.id) if follows else []
        nudge_webhooks(self._use.client, targets_told(session))
        await wake_lanes(self._use.sessions, self._use.client, self._use.redis, forgotten)
        return plan

    @activity.defn(name="rebalance")
    async def rebalance(self, campaign: CampaignInput) -> int:
        """Give devices that have too little of a campaign some of what the others hold; returns how many messages moved."""
        now = self._use.clock()
        async with self._use.sessions() as session:
            row = await get_owned(session, Campaign, campaign.user_id, Campaign.id == campaign.campaign_id)
            shifts = await due_shifts(session, row, now)
        moved = 0
        for shift in shifts:
            left = shift.messages
            while left > 0:
                async with self._use.sessions.begin() as session:
                    batch = await shift_batch(session, row, replace(shift, messages=left))
                moved += batch
                left = left - batch if batch else 0
                activity.heartbeat(moved)
            await wake_lanes(self._use.sessions, self._use.client, self._use.redis, [shift.target])
        return moved

    @activity.defn(name="cancel_pending")
    async def cancel_pending(self, campaign: CampaignInput) -> int:
        """Mark everything of a cancelled campaign that is still pending as cancelled; returns how many rows."""
        cancelled = 0
        while True:
            async with self._use.sessions.begin() as session:
                batch = await cancel_batch(session, campaign.user_id, campaign.campaign_id)
            cancelled += batch
            activity.heartbeat(cancelled)
            if not batch:
                return cancelled

    @activity.defn(name="retry_failed")
    async def retry_failed(self, retry: RetryInput) -> int:
        """Carry out one retry request, once: reopen the campaign, make its rows pending, wake the lanes; returns how many."""
        request = await self._open_request(retry)
        if request is None:
            return 0
        devices: set[UUID] = set()
        queued = 0
        while True:
            async with self._use.sessions.begin() as session:
                batch = await retry_batch(
                    session,
                    retry.user_id,
                    retry.campaign_id,
                    request.requested_at,
                    device_id=request.device_id,
                    message_id=request.message_id,
                )
                await session.execute(
                    update_owned(CampaignRetry, retry.user_id)
                    .where(CampaignRetry.id == retry.retry_id)
                    .values(queued=CampaignRetry.queued + len(batch))
                )
            if not batch:
                break
            queued += len(batch)
            devices |= set(batch)
            activity.heartbeat(queued)
        await wake_lanes(self._use.sessions, self._use.client, self._use.redis, devices)
        async with self._use.sessions.begin() as session:
            done = await get_owned(session, CampaignRetry, retry.user_id, CampaignRetry.id == retry.retry_id, lock=True)
            done.done_at = self._use.clock()
        return queued

    async def _open_request(self, retry: RetryInput) -> CampaignRetry | None:
        """The request, if it is still to be carried out; an ended campaign is opened again for it."""
        async with self._use.sessions.begin() as session:
            campaign = await get_owned(session, Campaign, retry.user_id, Campaign.id == retry.campaign_id, lock=True)
            request = await get_owned(session, CampaignRetry, retry.user_id, CampaignRetry.id == retry.retry_id, lock=True)
            if request.done_at is not None:
                return None
            if campaign.deleted_at is not None or campaign.status is CampaignStatus.CANCELLED:
                request.done_at = self._use.clock()
                return None
            if campaign.status in OVER:
                campaign.status, campaign.status_reason, campaign.completed_at = CampaignStatus.SENDING, None, None
            return request


async def _next_step(
    session: AsyncSession, row: Campaign, rows: OpenRows, counts: Totals, now: datetime
) -> tuple[CampaignAction, datetime | None]:
    if row.status is CampaignStatus.CANCELLED or row.deleted_at is not None:
        if rows.pending:
            return CampaignAction.SETTLE_CANCELLED, None
        return (CampaignAction.FOLLOW, now + timedelta(seconds=3)) if rows.claimed else (CampaignAction.END, None)
    if row.status is CampaignStatus.SCHEDULED:
        if row.scheduled_at > now:
            return CampaignAction.SLEEP, row.scheduled_at
        row.status, row.status_reason, row.started_at = CampaignStatus.SENDING, None, now
        note_campaign(session, row, "started")
    if row.status is CampaignStatus.PAUSED:
        return CampaignAction.SLEEP, None
    if row.status in OVER:
        return CampaignAction.END, None
    if row.expanded_at is None and not is_canary_out(row):
        # The first messages are on their way long before a huge audience has been written.
        why = why_stop(row, await outcomes_of(session, row)) if has_threshold(row) else None
        return (CampaignAction.EXPAND, None) if why is None else _stop(session, row, why)
    return await _go_on(session, row, rows, counts, now)


async def _go_on(
    session: AsyncSession, row: Campaign, rows: OpenRows, counts: Totals, now: datetime
) -> tuple[CampaignAction, datetime | None]:
    """The next step of a campaign under way whose messages, or those of its canary, have been written."""
    outcomes = await outcomes_of(session, row) if has_threshold(row) or is_canary_out(row) else None
    if rows.pending or rows.claimed or rows.retries:
        if outcomes is not None and (why := why_stop(row, outcomes)) is not None:
            return _stop(session, row, why)
        return await _follow(session, row, rows, counts, now)
    if outcomes is not None and is_canary_out(row):
        return _judge_canary(session, row, outcomes, now)
    row.status, row.status_reason = end_of(counts)
    row.completed_at = now
    note_campaign(session, row, row.status.value, success=counts.succeeded, failed=counts.failed, total=counts.total)
    await announce_campaign(session, row, _ended(counts), now)
    return CampaignAction.END, None


def _ended(counts: Totals) -> dict[str, int]:
    return {
        "total": counts.total,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "suppressed": counts.suppressed,
        "cancelled": counts.cancelled,
    }


def _judge_canary(
    session: AsyncSession, row: Campaign, outcomes: Outcomes, now: datetime
) -> tuple[CampaignAction, datetime | None]:
    """The canary's messages have all ended: go on to the rest, watch a while longer, or stop."""
    if (why := why_stop(row, outcomes, fewest=1)) is not None:
        return _stop(session, row, why)
    until_at = watch_until(row, outcomes)
    if until_at is not None and until_at > now:
        row.status, row.status_reason = CampaignStatus.WAITING, "the first messages are out: watching who opts out"
        return CampaignAction.FOLLOW, min(until_at, now + FEW_INTERVAL)
    row.canary_passed_at = now
    row.status, row.status_reason = CampaignStatus.SENDING, None
    return CampaignAction.EXPAND, None


def _stop(session: AsyncSession, row: Campaign, why: str) -> tuple[CampaignAction, datetime | None]:
    row.status, row.status_reason = CampaignStatus.PAUSED, why
    note_campaign(session, row, "stopped", reason=why)
    return CampaignAction.SLEEP, None


async def _follow(
    session: AsyncSession, row: Campaign, rows: OpenRows, counts: Totals, now: datetime
) -> tuple[CampaignAction, datetime | None]:
    reason = await waiting_reason(session, row.user_id, row.id) if rows.pending and not rows.claimed else None
    row.status = CampaignStatus.WAITING if reason else CampaignStatus.SENDING
    row.status_reason = reason
    look_at = next_look(row, rows, counts.pending, now)
    if has_threshold(row):
        look_at = min(look_at, now + LOOK_EVERY)
    is_uneven = rows.pending and await due_shifts(session, row, now)
    return (CampaignAction.REBALANCE if is_uneven else CampaignAction.FOLLOW), look_at
