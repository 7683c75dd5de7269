"""Campaigns: their phases, and the changes that take one from a phase to another.

Every change locks the row first, so that it and whatever a workflow does to the row come one after the other. The caller
commits and then nudges the campaign's workflow, which reads the row again.
"""

from datetime import date, datetime, time
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_campaign
from siaran.errors import Conflict, Invalid
from siaran.media import find_media, referenced_id
from siaran.models import Campaign, CampaignCount, CampaignRetry, CampaignStatus
from siaran.schedule import Schedule, schedule_at, schedule_now
from siaran.stop_loss import note_resumed
from siaran.tenancy import get_owned, update_owned

RUNNING = frozenset({CampaignStatus.SENDING, CampaignStatus.WAITING})
"""Phases in which messages may be claimed."""

ENDED = frozenset({CampaignStatus.SENT, CampaignStatus.FAILED, CampaignStatus.CANCELLED})
"""Phases that only a retry leaves, and a cancelled campaign never."""

TITLE_LENGTH = 200
COPY_MARK = " (copy)"
COPY_REASON = "a copy, which waits for you to set its date or to start it"


def has_started(campaign: Campaign) -> bool:
    """Whether the audience has begun to be written into the ledger; from then on it stands."""
    return (
        campaign.status in RUNNING
        or campaign.started_at is not None
        or campaign.expanded_at is not None
        or campaign.expansion_cursor > 0
    )


async def get_campaign(
    session: AsyncSession, user_id: UUID, campaign_id: int, *, lock: bool = False, with_deleted: bool = False
) -> Campaign:
    """A user's campaign; raises `NotFound` for anyone else's, for none, and, unless asked for, for a deleted one."""
    where: list[ColumnElement[bool]] = [Campaign.id == campaign_id]
    if not with_deleted:
        where.append(Campaign.deleted_at.is_(None))
    return await get_owned(session, Campaign, user_id, *where, lock=lock)


async def pause_campaign(session: AsyncSession, user_id: UUID, campaign_id: int, now: datetime) -> Campaign:
    """Stop claiming; a paused one stays paused. Raises `Conflict` after the end."""
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    _refuse_ended(campaign, "paused")
    if campaign.status != CampaignStatus.PAUSED:
        _enter(campaign, CampaignStatus.PAUSED, now)
        note_campaign(session, campaign, "paused")
    return campaign


async def resume_campaign(session: AsyncSession, user_id: UUID, campaign_id: int, now: datetime) -> Campaign:
    """Go on: a campaign paused before its start is scheduled again, and starts at once if its time has come meanwhile.

    One that is not paused is left alone; one that had stopped by itself is judged by what comes from now on. Raises `Conflict`
    after the end.
    """
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    _refuse_ended(campaign, "resumed")
    if campaign.status == CampaignStatus.PAUSED:
        await note_resumed(session, campaign)
        _enter(campaign, CampaignStatus.SENDING if has_started(campaign) else CampaignStatus.SCHEDULED, now)
        note_campaign(session, campaign, "resumed")
    return campaign


async def cancel_campaign(session: AsyncSession, user_id: UUID, campaign_id: int, now: datetime) -> Campaign:
    """End it for good: what is pending will not be sent. Raises `Conflict` for one that has come to its own end."""
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    if campaign.status != CampaignStatus.CANCELLED:
        _refuse_ended(campaign, "cancelled")
        await _cancel(session, campaign, now)
    return campaign


async def delete_campaign(session: AsyncSession, user_id: UUID, campaign_id: int, now: datetime) -> Campaign:
    """Hide it and cancel it if it has not ended; its messages stay in the ledger."""
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    if campaign.status in ENDED:
        await _close_retries(session, campaign, now)
    else:
        await _cancel(session, campaign, now)
    campaign.deleted_at = campaign.updated_at = now
    note_campaign(session, campaign, "deleted")
    return campaign


async def start_campaign(session: AsyncSession, user_id: UUID, campaign_id: int, *, zone: str, now: datetime) -> Campaign:
    """Make it due at once; one that is under way is left alone. Raises `Conflict` when it has ended or is paused midway."""
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    _refuse_ended(campaign, "started")
    if campaign.status in RUNNING:
        return campaign
    if has_started(campaign):
        raise Conflict("the campaign is paused midway; resume it")
    set_schedule(campaign, schedule_now(zone, now))
    _enter(campaign, CampaignStatus.SCHEDULED, now)
    return campaign


async def reschedule_campaign(
    session: AsyncSession,
    user_id: UUID,
    campaign_id: int,
    *,
    campaign_date: date,
    scheduled_time: time | None,
    zone: str,
    now: datetime,
) -> Campaign:
    """Set another date and time, and schedule it again if it was paused before its start; no time keeps the clock time it has.

    Raises `Conflict` once it has started and `Invalid` for the past.
    """
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    _refuse_ended(campaign, "rescheduled")
    if has_started(campaign):
        raise Conflict("the campaign has started; only its title, message, image and delays can still be changed")
    set_schedule(campaign, schedule_at(campaign_date, scheduled_time or campaign.scheduled_time, zone, now))
    _enter(campaign, CampaignStatus.SCHEDULED, now)
    note_campaign(session, campaign, "rescheduled", due_at=campaign.scheduled_at.isoformat())
    return campaign


async def copy_campaign(
    session: AsyncSession,
    user_id: UUID,
    campaign_id: int,
    *,
    zone: str,
    now: datetime,
    campaign_date: date | None = None,
    scheduled_time: time | None = None,
    title: str | None = None,
) -> Campaign:
    """A new campaign with the same content and audience.

    With a date it is scheduled; without one it is paused, so that nothing goes out a second time by a copy alone. Raises
    `Invalid` when its image has been deleted.
    """
    source = await get_campaign(session, user_id, campaign_id)
    if source.image_url is not None and referenced_id(source.image_url) is not None:
        await find_media(session, user_id, source.image_url)
    if campaign_date is None:
        if scheduled_time is not None:
            raise Invalid.field("campaign_date", "is required with a time")
        schedule = Schedule(source.campaign_date, source.scheduled_time, source.scheduled_at)
    else:
        schedule = schedule_at(campaign_date, scheduled_time or source.scheduled_time, zone, now)
    copy = Campaign(
        user_id=user_id,
        device_id=source.device_id,
        title=" ".join((title or "").split()) or _copied_title(source.title),
        niche=source.niche,
        target_status=source.target_status,
        message=source.message,
        image_url=source.image_url,
        message_type=source.message_type,
        min_delay_seconds=source.min_delay_seconds,
        max_delay_seconds=source.max_delay_seconds,
        device_strategy=source.device_strategy,
        canary_size=source.canary_size,
        stop_failed_percent=source.stop_failed_percent,
        stop_opted_out_percent=source.stop_opted_out_percent,
        created_at=now,
    )
    set_schedule(copy, schedule)
    if campaign_date is None:
        _enter(copy, CampaignStatus.PAUSED, now, COPY_REASON)
    else:
        _enter(copy, CampaignStatus.SCHEDULED, now)
    session.add(copy)
    await session.flush()
    note_campaign(session, copy, "created", copy_of=source.id)
    return copy


def _copied_title(title: str) -> str:
    return title[: TITLE_LENGTH - len(COPY_MARK)] + COPY_MARK


def set_schedule(campaign: Campaign, schedule: Schedule) -> None:
    """Write a date, a clock time and the instant they mean into a campaign."""
    campaign.campaign_date = schedule.day
    campaign.scheduled_time = schedule.clock_time
    campaign.scheduled_at = schedule.due_at


async def devices_with_pending(session: AsyncSession, user_id: UUID, campaign_id: int) -> list[UUID]:
    """The devices whose lanes have messages of a campaign to send."""
    found = await session.scalars(
        select(CampaignCount.device_id).where(
            CampaignCount.user_id == user_id, CampaignCount.campaign_id == campaign_id, CampaignCount.pending > 0
        )
    )
    return list(found)


def _enter(campaign: Campaign, status: CampaignStatus, now: datetime, reason: str | None = None) -> None:
    campaign.status = status
    campaign.status_reason = reason
    campaign.updated_at = now


def _refuse_ended(campaign: Campaign, verb: str) -> None:
    if campaign.status in ENDED:
        raise Conflict(f"the campaign is {campaign.status} and cannot be {verb} any more")


async def _cancel(session: AsyncSession, campaign: Campaign, now: datetime) -> None:
    _enter(campaign, CampaignStatus.CANCELLED, now)
    campaign.completed_at = now
    note_campaign(session, campaign, "cancelled")
    await _close_retries(session, campaign, now)


async def _close_retries(session: AsyncSession, campaign: Campaign, now: datetime) -> None:
    """Answer what nobody has carried out yet, so that no retry brings a cancelled or deleted campaign back."""
    await session.execute(
        update_owned(CampaignRetry, campaign.user_id)
        .where(CampaignRetry.campaign_id == campaign.id, CampaignRetry.done_at.is_(None))
        .values(done_at=now)
    )
