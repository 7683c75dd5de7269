"""Anyone's campaigns, for administrators: look, pause, resume, retry; audited."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import AdminDep, AuthenticatedUser, client_address
from api.campaign_signals import signal_change, signal_resumed, signal_retry
from api.campaigns import CampaignId, CampaignView, Retried, retry_message
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from api.routes.campaign_reports import DeviceReport
from api.routes.campaigns import FilterDep
from siaran.audit import record_audit
from siaran.campaign_owners import counts_of_all, find_owner, list_all_campaigns
from siaran.campaign_reports import Counts, counts_of, device_report
from siaran.campaign_retries import request_campaign_retry
from siaran.campaigns import devices_with_pending, get_campaign, pause_campaign, resume_campaign
from siaran.contracts import campaign_workflow_id
from siaran.models import Campaign, User
from siaran.settings import Settings
from siaran.temporal_ui import workflow_link

router = APIRouter(prefix="/api/admin/campaigns", tags=["administration"])


class AdminCampaignView(BaseModel):
    """A campaign as administrators see it."""

    campaign: CampaignView
    owner_email: str
    deleted_at: datetime | None
    temporal_url: str | None = Field(
        description="Its workflow in the Temporal UI; a path of this API where that serves the UI."
    )

    @classmethod
    def of(cls, campaign: Campaign, owner: User, counts: Counts, settings: Settings) -> "AdminCampaignView":
        """A campaign with its owner and its counters."""
        return cls(
            campaign=CampaignView.of(campaign, counts),
            owner_email=owner.email,
            deleted_at=campaign.deleted_at,
            temporal_url=workflow_link(settings, campaign_workflow_id(campaign.id)),
        )


class AdminCampaignReport(AdminCampaignView):
    """The same, device by device."""

    report: DeviceReport


@router.get("")
async def read_campaigns(
    _: AdminDep,
    context: ContextDep,
    wanted: FilterDep,
    paging: PagingDep,
    user_id: Annotated[UUID | None, Query(description="Only campaigns of this user.")] = None,
) -> ListEnvelope[AdminCampaignView]:
    """Campaigns of all users, newest first."""
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        rows = await list_all_campaigns(session, wanted, user_id=user_id, after=after[0] if after else None, limit=paging.fetch)
        page, next_cursor = paging.cut(rows, lambda row: (row[0].id,))
        counts = await counts_of_all(session, page)
    items = [AdminCampaignView.of(campaign, owner, counts[campaign.id], context.settings) for campaign, owner in page]
    return listed(items, next_cursor, "Campaigns")


@router.get("/{campaign_id}")
async def read_campaign(
    campaign_id: CampaignId, request: Request, admin: AdminDep, context: ContextDep
) -> Envelope[AdminCampaignReport]:
    """Anyone's campaign with its device report, even a deleted one."""
    async with context.sessions.begin() as session:
        owner = await find_owner(session, campaign_id)
        campaign = await get_campaign(session, owner.id, campaign_id, with_deleted=True)
        await _audit(session, request, admin, campaign, "campaign.inspected")
        report = await device_report(session, campaign)
        view = AdminCampaignView.of(campaign, owner, await counts_of(session, campaign), context.settings)
    return success(AdminCampaignReport(**dict(view), report=DeviceReport.of(report)), "Campaign")


@router.post("/{campaign_id}/pause")
async def pause(campaign_id: CampaignId, request: Request, admin: AdminDep, context: ContextDep) -> Envelope[AdminCampaignView]:
    """Pause anyone's campaign."""
    campaign, view = await _change(context, request, admin, campaign_id, change=pause_campaign, action="campaign.paused")
    await signal_change(context, campaign)
    return success(view, "Campaign paused")


@router.post("/{campaign_id}/resume")
async def resume(
    campaign_id: CampaignId, request: Request, admin: AdminDep, context: ContextDep
) -> Envelope[AdminCampaignView]:
    """Let anyone's paused campaign go on."""
    campaign, view = await _change(context, request, admin, campaign_id, change=resume_campaign, action="campaign.resumed")
    async with context.sessions.begin() as session:
        devices = await devices_with_pending(session, campaign.user_id, campaign_id)
    await signal_resumed(context, campaign, devices)
    return success(view, "Campaign resumed")


@router.post("/{campaign_id}/retry-failed")
async def retry_failed(campaign_id: CampaignId, request: Request, admin: AdminDep, context: ContextDep) -> Envelope[Retried]:
    """Send again what failed in anyone's campaign and can be retried."""
    async with context.sessions.begin() as session:
        owner = await find_owner(session, campaign_id)
        retry = await request_campaign_retry(
            session, owner.id, campaign_id, device_id=None, requested_by=admin.id, now=context.clock()
        )
        campaign = await get_campaign(session, owner.id, campaign_id)
        await _audit(session, request, admin, campaign, "campaign.retried", retried=retry.queued)
    await signal_retry(context, owner.id, campaign_id, retry)
    return success(Retried(retried=retry.queued), retry_message(retry.queued))


Change = Callable[[AsyncSession, UUID, int, datetime], Awaitable[Campaign]]


async def _change(
    context: Context, request: Request, admin: AuthenticatedUser, campaign_id: int, *, change: Change, action: str
) -> tuple[Campaign, AdminCampaignView]:
    """Carry out a change on behalf of the owner and note it, in one transaction."""
    async with context.sessions.begin() as session:
        owner = await find_owner(session, campaign_id)
        campaign = await change(session, owner.id, campaign_id, context.clock())
        await _audit(session, request, admin, campaign, action, status=campaign.status)
        view = AdminCampaignView.of(campaign, owner, await counts_of(session, campaign), context.settings)
    return campaign, view


async def _audit(
    session: AsyncSession, request: Request, admin: AuthenticatedUser, campaign: Campaign, action: str, **details: object
) -> None:
    await record_audit(
        session,
        actor_id=admin.id,
        owner_id=campaign.user_id,
        action=action,
        subject=campaign_workflow_id(campaign.id),
        details=details,
        address=client_address(request),
    )
