"""The reports on campaigns as CSV files."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api.attachments import CSV_ANSWER, attach_csv
from api.auth import AuthenticatedUser, UserDep
from api.campaigns import CampaignId
from api.context import Context, ContextDep
from api.routes.campaign_reports import GroupQuery
from api.routes.campaigns import DaysDep, summed_up
from siaran.analytics import check_device
from siaran.campaign_exports import export_device_report, export_recipients, export_summary
from siaran.campaign_messages import parse_group
from siaran.campaigns import get_campaign

router = APIRouter(tags=["campaigns"])


@router.get("/api/campaigns/summary/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_campaigns(
    user: UserDep,
    context: ContextDep,
    days: DaysDep,
    every_day: Annotated[bool, Query(alias="all", description="All campaigns, whatever their date.")] = False,
) -> StreamingResponse:
    """The summary's campaigns with their counts as a CSV file: of today and tomorrow, of one date, or of a range."""
    wanted = summed_up(days, user, context.clock(), every_day=every_day)
    return attach_csv("campaigns.csv", export_summary(context.sessions, user.id, wanted))


@router.get("/api/campaigns/{campaign_id}/device-report/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_devices(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> StreamingResponse:
    """The device report as a CSV file, with the sum of all devices as its last row."""
    await _check(context, user, campaign_id)
    return attach_csv(f"campaign-{campaign_id}-devices.csv", export_device_report(context.sessions, user.id, campaign_id))


@router.get("/api/campaigns/{campaign_id}/leads/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_leads(
    campaign_id: CampaignId, user: UserDep, context: ContextDep, group: GroupQuery = "all"
) -> StreamingResponse:
    """The recipients of a campaign and what became of their messages as a CSV file, by phone."""
    return await _export_leads(context, user, campaign_id, group, None)


@router.get(
    "/api/campaigns/{campaign_id}/device/{device_id}/leads/export", response_class=StreamingResponse, responses=CSV_ANSWER
)
async def export_device_leads(
    campaign_id: CampaignId, device_id: UUID, user: UserDep, context: ContextDep, group: GroupQuery = "all"
) -> StreamingResponse:
    """The recipients of a campaign on one device as a CSV file, by phone."""
    return await _export_leads(context, user, campaign_id, group, device_id)


async def _check(context: Context, user: AuthenticatedUser, campaign_id: int, device_id: UUID | None = None) -> None:
    """Refuse what is somebody else's before the file has begun."""
    async with context.sessions.begin() as session:
        await get_campaign(session, user.id, campaign_id)
        await check_device(session, user.id, device_id)


async def _export_leads(
    context: Context, user: AuthenticatedUser, campaign_id: int, group: str, device_id: UUID | None
) -> StreamingResponse:
    statuses = parse_group(group)
    await _check(context, user, campaign_id, device_id)
    rows = export_recipients(context.sessions, user.id, campaign_id, statuses, zone=user.timezone, device_id=device_id)
    return attach_csv(f"campaign-{campaign_id}-leads.csv", rows)
