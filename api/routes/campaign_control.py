"""Steering a campaign: preflight, start, pause, resume, cancel, reschedule, copy, and sending what failed again."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import UserDep
from api.campaign_signals import signal_change, signal_resumed, signal_retry
from api.campaigns import (
    DATE_FIELD,
    TIME_FIELD,
    CampaignId,
    CampaignView,
    ClockTime,
    Day,
    MessageId,
    Retried,
    retry_message,
)
from api.context import Context, ContextDep
from api.envelope import Envelope, success
from siaran import campaigns
from siaran.campaign_fields import MAX_TITLE
from siaran.campaign_reports import Counts, counts_of
from siaran.campaign_retries import request_campaign_retry, request_message_retry
from siaran.campaigns import devices_with_pending, get_campaign
from siaran.errors import Invalid
from siaran.estimates import describe_duration
from siaran.models import Campaign, DeviceStatus
from siaran.preflight import DeviceShare, Preflight, check_before_start

router = APIRouter(tags=["campaigns"])


class PreflightDevice(BaseModel):
    """A device's part in a campaign that has not started."""

    id: UUID
    name: str
    status: DeviceStatus
    can_send: bool = Field(description="Whether it could send at this moment.")
    messages: int = Field(description="How many messages it would get; they wait while it cannot send.")
    backlog: int = Field(description="Messages of other campaigns and sequences under way that it sends in turn with them.")
    finishes_at: datetime | None = Field(
        description="When it has sent its last; `null` without messages, or if it cannot send."
    )

    @classmethod
    def of(cls, share: DeviceShare) -> "PreflightDevice":
        """A device's share."""
        return cls(
            id=share.device.id,
            name=share.device.device_name,
            status=share.device.status,
            can_send=share.can_send,
            messages=share.messages,
            backlog=share.backlog,
            finishes_at=share.finishes_at,
        )


class PreflightView(BaseModel):
    """What would happen with the leads and devices of now."""

    matched: int = Field(description="Leads that match niche and target status.")
    suppressed: int = Field(description="Those of them who have opted out and are not written to.")
    limited: int = Field(description="Those who by then have had as many messages as the user allows, and are passed over.")
    without_device: int = Field(description="Those without a device of their own, which the strategy `owner` cannot write to.")
    recipients: int = Field(description="matched - suppressed - limited - without_device.")
    duplicates: int = Field(0, description="Always 0: a lead is unique by phone; duplicates show when leads are imported.")
    invalid: int = Field(description="Recipients whose number had no WhatsApp account in an earlier campaign; tried again.")
    messages: int = Field(description="How many messages that is, or are left of a campaign under way.")
    waiting: int = Field(description="Messages for which no device can send at this moment.")
    devices_total: int = Field(description="Linked devices that take part.")
    devices_usable: int = Field(description="Those of them that can send at this moment.")
    devices: list[PreflightDevice]
    starts_at: datetime
    finishes_at: datetime | None = Field(
        description="Estimated from delays, caps, sending hours and backlog; `null` while no device can send."
    )
    estimated_seconds: int | None
    estimate: str = Field(description="The duration in words.", examples=["about 3.7 hours"])

    @classmethod
    def of(cls, preflight: Preflight) -> "PreflightView":
        """The same with the end worked out."""
        audience, duration = preflight.audience, preflight.duration
        return cls(
            matched=audience.matched,
            suppressed=audience.suppressed,
            limited=audience.limited,
            without_device=audience.without_device,
            recipients=audience.recipients,
            invalid=audience.invalid,
            messages=preflight.messages,
            waiting=preflight.waiting,
            devices_total=len(preflight.shares),
            devices_usable=sum(share.can_send for share in preflight.shares),
            devices=[PreflightDevice.of(share) for share in preflight.shares],
            starts_at=preflight.starts_at,
            finishes_at=preflight.finishes_at,
            estimated_seconds=None if duration is None else round(duration.total_seconds()),
            estimate="no device can send at the moment" if duration is None else describe_duration(duration),
        )


class NewSchedule(BaseModel):
    """Another date and time."""

    campaign_date: Day = DATE_FIELD
    scheduled_time: ClockTime = TIME_FIELD


class CopyOptions(NewSchedule):
    """How the copy differs."""

    title: str | None = Field(None, max_length=MAX_TITLE, description="Another title.")


class RetryOptions(BaseModel):
    """How to retry one message."""

    confirm: bool = Field(False, description="Yes, even though the person may get it twice.")


@router.get("/api/campaigns/{campaign_id}/preflight")
async def check_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[PreflightView]:
    """How many leads match, how they spread over the devices, and when it will be done."""
    async with context.sessions.begin() as session:
        campaign = await get_campaign(session, user.id, campaign_id)
        preflight = await check_before_start(session, campaign, context.clock())
    return success(PreflightView.of(preflight), "Preflight")


async def _change(
    context: Context, change: Callable[[AsyncSession], Awaitable[Campaign]], message: str
) -> Envelope[CampaignView]:
    """Carry out one change in a transaction of its own, then tell the campaign's workflow."""
    async with context.sessions.begin() as session:
        campaign = await change(session)
        view = CampaignView.of(campaign, await counts_of(session, campaign))
    await signal_change(context, campaign)
    return success(view, message)


@router.post("/api/campaigns/{campaign_id}/start")
async def start_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[CampaignView]:
    """Start it now, whenever it was scheduled for."""
    return await _change(
        context,
        lambda session: campaigns.start_campaign(session, user.id, campaign_id, zone=user.timezone, now=context.clock()),
        "Campaign started",
    )


@router.post("/api/campaigns/{campaign_id}/pause")
async def pause_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[CampaignView]:
    """Stop sending from the next message on; nothing is lost."""
    return await _change(
        context, lambda session: campaigns.pause_campaign(session, user.id, campaign_id, context.clock()), "Campaign paused"
    )


@router.post("/api/campaigns/{campaign_id}/resume")
async def resume_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[CampaignView]:
    """Go on where it was paused; one that was paused before its start is scheduled again."""
    async with context.sessions.begin() as session:
        campaign = await campaigns.resume_campaign(session, user.id, campaign_id, context.clock())
        view = CampaignView.of(campaign, await counts_of(session, campaign))
        devices = await devices_with_pending(session, user.id, campaign_id)
    await signal_resumed(context, campaign, devices)
    return success(view, "Campaign resumed")


@router.post("/api/campaigns/{campaign_id}/cancel")
async def cancel_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[CampaignView]:
    """End it for good; what is pending is not sent."""
    return await _change(
        context, lambda session: campaigns.cancel_campaign(session, user.id, campaign_id, context.clock()), "Campaign cancelled"
    )


@router.post("/api/campaigns/{campaign_id}/reschedule")
async def reschedule_campaign(
    campaign_id: CampaignId, body: NewSchedule, user: UserDep, context: ContextDep
) -> Envelope[CampaignView]:
    """Another date and time for a campaign that has not started; without a time it keeps the one it has."""
    if body.campaign_date is None:
        raise Invalid.field("campaign_date", "is required")
    day, clock_time = body.campaign_date, body.scheduled_time
    return await _change(
        context,
        lambda session: campaigns.reschedule_campaign(
            session,
            user.id,
            campaign_id,
            campaign_date=day,
            scheduled_time=clock_time,
            zone=user.timezone,
            now=context.clock(),
        ),
        "Campaign rescheduled",
    )


@router.post("/api/campaigns/{campaign_id}/copy", status_code=201)
async def copy_campaign(
    campaign_id: CampaignId, user: UserDep, context: ContextDep, body: CopyOptions | None = None
) -> Envelope[CampaignView]:
    """A new campaign with the same content and audience: scheduled for the date given, or paused until you set one."""
    options = body or CopyOptions()
    async with context.sessions.begin() as session:
        copy = await campaigns.copy_campaign(
            session,
            user.id,
            campaign_id,
            zone=user.timezone,
            now=context.clock(),
            campaign_date=options.campaign_date,
            scheduled_time=options.scheduled_time,
            title=options.title,
        )
    await signal_change(context, copy)
    return success(CampaignView.of(copy, Counts()), "Campaign copied")


@router.post("/api/campaigns/{campaign_id}/retry-failed")
async def retry_campaign(campaign_id: CampaignId, user: UserDep, context: ContextDep) -> Envelope[Retried]:
    """Send again what failed and can be retried."""
    return await _retry(context, user.id, campaign_id, None)


@router.post("/api/campaigns/{campaign_id}/device/{device_id}/retry-failed")
async def retry_device(campaign_id: CampaignId, device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[Retried]:
    """Send again what failed on one device and can be retried."""
    return await _retry(context, user.id, campaign_id, device_id)


async def _retry(context: Context, user_id: UUID, campaign_id: int, device_id: UUID | None) -> Envelope[Retried]:
    async with context.sessions.begin() as session:
        done = await request_campaign_retry(
            session, user_id, campaign_id, device_id=device_id, requested_by=user_id, now=context.clock()
        )
    await signal_retry(context, user_id, campaign_id, done)
    return success(Retried(retried=done.queued), retry_message(done.queued))


@router.post("/api/campaigns/{campaign_id}/messages/{message_id}/retry")
async def retry_one_message(
    *,
    campaign_id: CampaignId,
    message_id: MessageId,
    user: UserDep,
    context: ContextDep,
    body: RetryOptions | None = None,
    confirm: Annotated[bool, Query(description="The same as `confirm` in the body.")] = False,
) -> Envelope[Retried]:
    """Send one message again; an `unknown` one only with `confirm`, because the person may get it twice."""
    async with context.sessions.begin() as session:
        done = await request_message_retry(
            session,
            user.id,
            campaign_id,
            message_id,
            confirm=confirm or (body is not None and body.confirm),
            requested_by=user.id,
            now=context.clock(),
        )
    await signal_retry(context, user.id, campaign_id, done)
    return success(Retried(retried=done.queued), retry_message(done.queued))
