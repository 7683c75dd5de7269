"""What became of a campaign: per device, and person by person."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.auth import UserDep
from api.campaigns import CampaignId, link_next
from api.context import ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from siaran.campaign_messages import GROUPS, campaign_messages, parse_group
from siaran.campaign_reports import Counts, DeviceRow, device_report
from siaran.campaigns import get_campaign
from siaran.models import BroadcastMessage, DeviceStatus, MessageStatus

router = APIRouter(tags=["campaigns"])

GroupQuery = Annotated[
    str,
    Query(
        alias="status",
        max_length=20,
        description=f"One of {', '.join(GROUPS)}. `pending` includes those being sent, `success` is sent, delivered and read, "
        "`failed` includes unknown.",
    ),
]


class LeadCounts(BaseModel):
    """Leads by what became of their message; the five add up to the total."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    total_leads: int
    pending_leads: int
    success_leads: int = Field(description="Sent, delivered and read.")
    failed_leads: int = Field(description="Failed, and those of which nobody can tell.")
    suppressed_leads: int = Field(description="Not sent because the contact had opted out.")
    cancelled_leads: int = Field(description="Not sent because the campaign was cancelled.")
    success_rate: float = Field(description="Percent sent of those that were tried and came to an end.")


def _lead_counts(counts: Counts) -> dict[str, float]:
    return {
        "total_leads": counts.total,
        "pending_leads": counts.pending,
        "success_leads": counts.success,
        "failed_leads": counts.not_sent,
        "suppressed_leads": counts.suppressed,
        "cancelled_leads": counts.cancelled,
        "success_rate": counts.success_rate,
    }


class DeviceReportRow(LeadCounts):
    """One device's part."""

    id: UUID
    name: str
    status: DeviceStatus
    is_deleted: bool

    @classmethod
    def of(cls, row: DeviceRow) -> Self:
        """A device and its counters."""
        device = row.device
        return cls.model_validate(
            {
                "id": device.id,
                "name": device.device_name,
                "status": device.status,
                "is_deleted": device.deleted_at is not None,
                **_lead_counts(row.counts),
            }
        )


class DeviceReport(LeadCounts):
    """A campaign, device by device."""

    total_devices: int
    active_devices: int = Field(description="Connected at the moment.")
    disconnected_devices: int
    devices: list[DeviceReportRow]

    @classmethod
    def of(cls, rows: Sequence[DeviceRow]) -> Self:
        """The rows and what they add up to."""
        active = sum(row.is_active for row in rows)
        return cls.model_validate(
            {
                "total_devices": len(rows),
                "active_devices": active,
                "disconnected_devices": len(rows) - active,
                "devices": [DeviceReportRow.of(row) for row in rows],
                **_lead_counts(sum((row.counts for row in rows), Counts())),
            }
        )


class CampaignLead(BaseModel):
    """One recipient and what became of their message."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: int = Field(description="Id of the message, for retrying it.")
    device_id: UUID
    name: str
    phone: str
    status: MessageStatus
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    attempts: int
    error: str | None = Field(description="Why it failed, or why nobody can tell.")
    error_code: str | None
    can_retry: bool = Field(description="Whether a retry takes it; an unknown one needs a confirmation.")

    @classmethod
    def of(cls, message: BroadcastMessage) -> Self:
        """A row of the ledger."""
        return cls(
            id=message.id,
            device_id=message.device_id,
            name=message.recipient_name,
            phone=message.recipient_phone,
            status=message.status,
            sent_at=message.sent_at,
            delivered_at=message.delivered_at,
            read_at=message.read_at,
            attempts=message.attempt,
            error=message.error_message or message.error_code,
            error_code=message.error_code,
            can_retry=message.status == MessageStatus.UNKNOWN
            or (message.status == MessageStatus.FAILED and message.is_retryable),
        )


@router.get("/api/campaigns/{campaign_id}/device-report")
async def read_device_report(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[DeviceReport]:
    """Leads by device and by what became of them; deleted devices that took part are still there."""
    async with context.sessions.begin() as session:
        rows = await device_report(session, await get_campaign(session, user.id, campaign_id))
    return success(DeviceReport.of(rows), "Device report")


@router.get("/api/campaigns/{campaign_id}/device/{device_id}/leads")
async def list_device_leads(
    *,
    campaign_id: CampaignId,
    device_id: UUID,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    request: Request,
    response: Response,
    group: GroupQuery = "all",
) -> ListEnvelope[CampaignLead]:
    """The recipients behind a count of the device report; the next page is also named in `Link` and `X-Next-Cursor`."""
    statuses, after = parse_group(group), paging.after(tuple[int])
    async with context.sessions.begin() as session:
        campaign = await get_campaign(session, user.id, campaign_id)
        rows = await campaign_messages(
            session, campaign, statuses, device_id=device_id, after=after[0] if after else None, limit=paging.fetch
        )
    page, next_cursor = paging.cut(rows, lambda message: (message.id,))
    link_next(request, response, next_cursor)
    return listed([CampaignLead.of(message) for message in page], next_cursor, "Leads")


@router.get("/api/campaigns/{campaign_id}/messages")
async def list_messages(
    *,
    campaign_id: CampaignId,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    request: Request,
    response: Response,
    group: GroupQuery = "all",
) -> ListEnvelope[CampaignLead]:
    """The recipients of a campaign on all devices; the next page is also named in `Link` and `X-Next-Cursor`."""
    statuses, after = parse_group(group), paging.after(tuple[int])
    async with context.sessions.begin() as session:
        campaign = await get_campaign(session, user.id, campaign_id)
        rows = await campaign_messages(session, campaign, statuses, after=after[0] if after else None, limit=paging.fetch)
    page, next_cursor = paging.cut(rows, lambda message: (message.id,))
    link_next(request, response, next_cursor)
    return listed([CampaignLead.of(message) for message in page], next_cursor, "Messages")
