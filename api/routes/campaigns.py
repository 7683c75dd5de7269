"""Campaigns: create, list, show, edit, delete, and the summary."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field, computed_field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import AuthenticatedUser, UserDep
from api.campaign_media import keep_image
from api.campaign_signals import signal_change
from api.campaigns import CampaignEdit, CampaignId, CampaignView, Day, NewCampaign, link_next
from api.context import ContextDep
from api.envelope import Envelope, ListEnvelope, success
from api.paging import Paging, PagingDep
from siaran import campaign_fields, campaign_reports, campaigns
from siaran.campaign_fields import CampaignChanges
from siaran.campaign_reports import FAILED_CAMPAIGNS, PENDING_CAMPAIGNS, CampaignFilter, Counts
from siaran.errors import Invalid
from siaran.models import Campaign, CampaignStatus
from siaran.schedule import local_day

router = APIRouter(tags=["campaigns"])


class CampaignTotals(BaseModel):
    """How many campaigns are where; the three add up to the total."""

    total: int
    pending: int = Field(description="Scheduled, sending, waiting and paused.")
    sent: int
    failed: int = Field(description="Failed and cancelled.")

    @classmethod
    def of(cls, phases: dict[CampaignStatus, int]) -> "CampaignTotals":
        """The totals of campaigns counted by phase."""
        return cls(
            total=sum(phases.values()),
            pending=sum(phases.get(status, 0) for status in PENDING_CAMPAIGNS),
            sent=phases.get(CampaignStatus.SENT, 0),
            failed=sum(phases.get(status, 0) for status in FAILED_CAMPAIGNS),
        )


class MessageTotals(BaseModel):
    """What became of the messages of all these campaigns; all but the rate add up to the total."""

    total_messages: int
    sent_messages: int = Field(description="Sent, delivered and read.")
    failed_messages: int = Field(description="Failed, and those of which nobody can tell.")
    pending_messages: int = Field(description="Pending, and those being sent right now.")
    suppressed_messages: int = Field(description="Not sent because the contact had opted out.")
    cancelled_messages: int = Field(description="Not sent because the campaign was cancelled.")
    success_rate: float = Field(description="Percent sent of those that were tried and came to an end.")

    @classmethod
    def of(cls, counts: Counts) -> "MessageTotals":
        """The same in the original's words."""
        return cls(
            total_messages=counts.total,
            sent_messages=counts.success,
            failed_messages=counts.not_sent,
            pending_messages=counts.pending,
            suppressed_messages=counts.suppressed,
            cancelled_messages=counts.cancelled,
            success_rate=counts.success_rate,
        )


class CampaignList(ListEnvelope[CampaignView]):
    """A page of campaigns and the totals of all that the filters let through."""

    totals: CampaignTotals


class SummaryRow(CampaignView):
    """A campaign as a row of the summary's table."""

    @computed_field(description="Weekday of `campaign_date`.", examples=["Monday"])  # type: ignore[prop-decorator]  # as documented
    @property
    def day_name(self) -> str:
        """The weekday in English."""
        return f"{self.campaign_date:%A}"


class Summary(BaseModel):
    """Campaigns of some days and what became of their messages."""

    campaigns: CampaignTotals
    messages: MessageTotals
    recent_campaigns: list[SummaryRow] = Field(description="The campaigns, latest due first, one page of them.")
    next_cursor: str | None = Field(description="For the next page of `recent_campaigns`.")
    first_date: date | None = Field(description="The first day summed up, if there is a limit.")
    last_date: date | None = Field(description="The last day summed up, if there is a limit.")


class Deleted(BaseModel):
    """What was deleted."""

    id: int


def read_days(
    day: Annotated[Day, Query(alias="date", description="Campaigns of this date, YYYY-MM-DD.")] = None,
    first: Annotated[Day, Query(alias="from", description="Campaigns of this date and later.")] = None,
    last: Annotated[Day, Query(alias="to", description="Campaigns of this date and earlier.")] = None,
) -> CampaignFilter:
    """The query parameters `date`, `from` and `to`."""
    if day is not None:
        if first is not None or last is not None:
            raise Invalid.field("date", "goes without from and to")
        return CampaignFilter(first=day, last=day)
    if first is not None and last is not None and first > last:
        raise Invalid.field("from", "must not be later than to")
    return CampaignFilter(first=first, last=last)


def read_filter(
    days: Annotated[CampaignFilter, Depends(read_days)],
    status: Annotated[CampaignStatus | None, Query(description="Only campaigns in this phase.")] = None,
    niche: Annotated[str, Query(max_length=1000, description="Only campaigns to one of these whole tags.")] = "",
) -> CampaignFilter:
    """The query parameters of lists of campaigns."""
    return replace(days, status=status, niche=niche)


DaysDep = Annotated[CampaignFilter, Depends(read_days)]
FilterDep = Annotated[CampaignFilter, Depends(read_filter)]


async def show_page(
    session: AsyncSession, user_id: UUID, wanted: CampaignFilter, paging: Paging
) -> tuple[list[CampaignView], str | None]:
    """One page of a user's campaigns and the cursor of the next."""
    rows = await campaign_reports.list_campaigns(
        session, user_id, wanted, after=paging.after(tuple[datetime, int]), limit=paging.fetch
    )
    page, next_cursor = paging.cut(rows, lambda campaign: (campaign.scheduled_at, campaign.id))
    return await show_all(session, user_id, page), next_cursor


async def show_all(session: AsyncSession, user_id: UUID, rows: Sequence[Campaign]) -> list[CampaignView]:
    """A user's campaigns with their counters."""
    counts = await campaign_reports.counts_by_campaign(session, user_id, [campaign.id for campaign in rows])
    return [CampaignView.of(campaign, counts[campaign.id]) for campaign in rows]


@router.get("/api/campaigns")
async def list_campaigns(
    *, user: UserDep, context: ContextDep, wanted: FilterDep, paging: PagingDep, request: Request, response: Response
) -> CampaignList:
    """One's own campaigns, latest due first."""
    async with context.sessions.begin() as session:
        page, next_cursor = await show_page(session, user.id, wanted, paging)
        phases = await campaign_reports.count_campaigns(session, user.id, wanted)
    link_next(request, response, next_cursor)
    return CampaignList(message="Campaigns", results=page, next_cursor=next_cursor, totals=CampaignTotals.of(phases))


@router.post("/api/campaigns", status_code=201)
async def create_campaign(body: NewCampaign, user: UserDep, context: ContextDep) -> Envelope[CampaignView]:
    """Schedule a campaign; it goes out by itself when its time comes."""
    now = context.clock()

    async def check(session: AsyncSession, wanted: CampaignChanges) -> Campaign:
        return await campaign_fields.draft_campaign(session, user.id, wanted, zone=user.timezone, now=now)

    wanted = await keep_image(context, user.id, body.changes(), check)
    async with context.sessions.begin() as session:
        campaign = await campaign_fields.create_campaign(session, user.id, wanted, zone=user.timezone, now=now)
    await signal_change(context, campaign)
    return success(CampaignView.of(campaign, Counts()), "Campaign scheduled")


@router.get("/api/campaigns/summary")
async def read_summary(
    user: UserDep,
    context: ContextDep,
    days: DaysDep,
    paging: PagingDep,
    every_day: Annotated[bool, Query(alias="all", description="All campaigns, whatever their date.")] = False,
) -> Envelope[Summary]:
    """Campaigns and messages of today and tomorrow, of one date, or of a range."""
    wanted = summed_up(days, user, context.clock(), every_day=every_day)
    async with context.sessions.begin() as session:
        phases = await campaign_reports.count_campaigns(session, user.id, wanted)
        counts = await campaign_reports.count_messages(session, user.id, wanted)
        page, next_cursor = await show_page(session, user.id, wanted, paging)
    summary = Summary(
        campaigns=CampaignTotals.of(phases),
        messages=MessageTotals.of(counts),
        recent_campaigns=[SummaryRow.model_validate(dict(row)) for row in page],
        next_cursor=next_cursor,
        first_date=wanted.first,
        last_date=wanted.last,
    )
    return success(summary, "Campaign summary")


def summed_up(days: CampaignFilter, user: AuthenticatedUser, now: datetime, *, every_day: bool) -> CampaignFilter:
    """The filter of the summary: today and tomorrow in the user's zone where nothing else was asked for."""
    if days != CampaignFilter() or every_day:
        return days
    today = local_day(now, user.timezone)
    return CampaignFilter(first=today, last=today + timedelta(days=1))


@router.get("/api/campaigns/{campaign_id}")
async def read_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[CampaignView]:
    """One of one's own campaigns."""
    async with context.sessions.begin() as session:
        campaign = await campaigns.get_campaign(session, user.id, campaign_id)
        view = CampaignView.of(campaign, await campaign_reports.counts_of(session, campaign))
    return success(view, "Campaign")


@router.put("/api/campaigns/{campaign_id}")
async def edit_campaign(
    campaign_id: CampaignId, body: CampaignEdit, user: UserDep, context: ContextDep
) -> Envelope[CampaignView]:
    """Change what the request names; everything before the start, afterwards what is said, shown and how fast it goes."""
    now = context.clock()

    async def save(session: AsyncSession, wanted: CampaignChanges) -> Campaign:
        return await campaign_fields.edit_campaign(session, user.id, campaign_id, wanted, zone=user.timezone, now=now)

    wanted = await keep_image(context, user.id, body.changes(), save, campaign_id=campaign_id)
    async with context.sessions.begin() as session:
        campaign = await save(session, wanted)
        view = CampaignView.of(campaign, await campaign_reports.counts_of(session, campaign))
    await signal_change(context, campaign)
    return success(view, "Campaign changed")


@router.delete("/api/campaigns/{campaign_id}")
async def delete_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[Deleted]:
    """Cancel it if it has not ended, and hide it; what was sent stays in the ledger."""
    async with context.sessions.begin() as session:
        campaign = await campaigns.delete_campaign(session, user.id, campaign_id, context.clock())
    await signal_change(context, campaign)
    return success(Deleted(id=campaign_id), "Campaign deleted")
