"""What a campaign says and to whom: creating one, and editing what is still open to change."""

from dataclasses import dataclass
from datetime import date, datetime, time
from uuid import UUID

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_campaign
from siaran.campaigns import ENDED, TITLE_LENGTH, get_campaign, has_started, set_schedule
from siaran.errors import Conflict, FieldError, Invalid, NotFound
from siaran.lead_fields import clean_niche
from siaran.media import referenced_id
from siaran.message_types import fit_message_type
from siaran.models import Campaign, CampaignStatus, Device, DeviceStrategy, TargetStatus
from siaran.public_addresses import is_web_url
from siaran.rendering import check_template
from siaran.schedule import schedule_at, schedule_now
from siaran.tenancy import get_owned

MAX_TITLE = TITLE_LENGTH
MAX_MESSAGE = 65_536
MAX_DELAY_SECONDS = 86_400

MAX_CANARY = 100_000

PROTECTION = ("canary_size", "stop_failed_percent", "stop_opted_out_percent")

CONTENT = frozenset(
    {
        "title",
        "message",
        "image_url",
        "message_type",
        "min_delay_seconds",
        "max_delay_seconds",
        "stop_failed_percent",
        "stop_opted_out_percent",
    }
)
"""What may be edited while a campaign is under way; it takes effect at the next message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignChanges:
    """What to set; `None` leaves a field as it is, an empty text or a 0 of `PROTECTION` clears it. Delays are seconds.

    `any_device` lifts a restriction to one device. `send_now` takes the place of a date and time.
    """

    title: str | None = None
    niche: str | None = None
    target_status: TargetStatus | None = None
    message: str | None = None
    image_url: str | None = None
    message_type: str | None = None
    device_id: UUID | None = None
    any_device: bool = False
    device_strategy: DeviceStrategy | None = None
    min_delay_seconds: int | None = None
    max_delay_seconds: int | None = None
    canary_size: int | None = None
    stop_failed_percent: int | None = None
    stop_opted_out_percent: int | None = None
    campaign_date: date | None = None
    scheduled_time: time | None = None
    send_now: bool = False


async def create_campaign(
    session: AsyncSession, user_id: UUID, wanted: CampaignChanges, *, zone: str, now: datetime
) -> Campaign:
    """A new campaign, scheduled in the user's zone; raises `Invalid` naming every field that is wrong.

    Without a time it is due at this clock time on its date, so today without a time is now.
    """
    campaign = await draft_campaign(session, user_id, wanted, zone=zone, now=now)
    session.add(campaign)
    await session.flush()
    note_campaign(session, campaign, "created", due_at=campaign.scheduled_at.isoformat())
    return campaign


async def draft_campaign(
    session: AsyncSession, user_id: UUID, wanted: CampaignChanges, *, zone: str, now: datetime
) -> Campaign:
    """The campaign that `create_campaign` would write, checked and not written."""
    if wanted.target_status is None:
        raise Invalid.field("target_status", "is required: prospect or customer")
    campaign = Campaign(
        user_id=user_id,
        title="",
        niche="",
        target_status=wanted.target_status,
        message="",
        image_url=None,
        message_type="text",
        min_delay_seconds=10,
        max_delay_seconds=30,
        device_strategy=DeviceStrategy.BALANCED,
        status=CampaignStatus.SCHEDULED,
        created_at=now,
        updated_at=now,
    )
    await _set_content(session, campaign, wanted)
    if wanted.send_now:
        set_schedule(campaign, schedule_now(zone, now))
    elif wanted.campaign_date is None:
        raise Invalid.field("campaign_date", "is required, unless send_now is set")
    else:
        set_schedule(campaign, schedule_at(wanted.campaign_date, wanted.scheduled_time, zone, now))
    return campaign


async def edit_campaign(
    session: AsyncSession, user_id: UUID, campaign_id: int, wanted: CampaignChanges, *, zone: str, now: datetime
) -> Campaign:
    """Change what `wanted` names and nothing else; what it names with its present value is no change.

    Raises `Conflict` after the end, and for anything but `CONTENT` once the campaign has started.
    """
    campaign = await get_campaign(session, user_id, campaign_id, lock=True)
    if campaign.status in ENDED:
        raise Conflict(f"the campaign is {campaign.status} and cannot be edited any more; copy it")
    with session.no_autoflush:
        await _set_content(session, campaign, wanted)
    _move(campaign, wanted, zone, now)
    changed = _changed(campaign)
    if has_started(campaign) and (fixed := changed - CONTENT):
        raise Conflict(
            f"the campaign has started and its audience stands: {', '.join(sorted(fixed))} cannot be changed any more"
        )
    if changed:
        campaign.updated_at = now
        note_campaign(session, campaign, "edited", fields=sorted(changed))
    await session.flush()
    return campaign


def _changed(campaign: Campaign) -> set[str]:
    """The columns whose value differs from the stored one; the instant follows from date and time."""
    return {state.key for state in inspect(campaign).attrs if state.key != "scheduled_at" and state.history.has_changes()}


def _move(campaign: Campaign, wanted: CampaignChanges, zone: str, now: datetime) -> None:
    day = wanted.campaign_date or campaign.campaign_date
    clock_time = wanted.scheduled_time or campaign.scheduled_time
    if wanted.send_now:
        set_schedule(campaign, schedule_now(zone, now))
    elif (day, clock_time) != (campaign.campaign_date, campaign.scheduled_time):
        set_schedule(campaign, schedule_at(day, clock_time, zone, now))


async def _set_content(session: AsyncSession, campaign: Campaign, wanted: CampaignChanges) -> None:
    """Set everything but the schedule, and raise `Invalid` with all that does not fit together."""
    before = campaign.image_url
    if wanted.title is not None:
        campaign.title = " ".join(wanted.title.split())
    if wanted.niche is not None:
        campaign.niche = clean_niche(wanted.niche).text
    if wanted.target_status is not None:
        campaign.target_status = wanted.target_status
    if wanted.message is not None:
        campaign.message = wanted.message
    if wanted.image_url is not None:
        campaign.image_url = wanted.image_url.strip() or None
    if wanted.device_strategy is not None:
        campaign.device_strategy = wanted.device_strategy
    if wanted.min_delay_seconds is not None:
        campaign.min_delay_seconds = wanted.min_delay_seconds
    if wanted.max_delay_seconds is not None:
        campaign.max_delay_seconds = wanted.max_delay_seconds
    for field in PROTECTION:
        if (value := getattr(wanted, field)) is not None:
            setattr(campaign, field, value or None)
    errors = _problems(campaign)
    errors += await _set_message_type(session, campaign, wanted.message_type, is_new=campaign.image_url != before)
    errors += await _set_device(session, campaign, wanted)
    if errors:
        raise Invalid(errors)


async def _set_message_type(session: AsyncSession, campaign: Campaign, wanted: str | None, *, is_new: bool) -> list[FieldError]:
    try:
        campaign.message_type = await fit_message_type(
            session, campaign.user_id, campaign.image_url, present=campaign.message_type, wanted=wanted, is_new=is_new
        )
    except Invalid as error:
        return list(error.errors)
    return []


async def _set_device(session: AsyncSession, campaign: Campaign, wanted: CampaignChanges) -> list[FieldError]:
    if wanted.any_device:
        campaign.device_id = None
    elif wanted.device_id is not None and wanted.device_id != campaign.device_id:
        try:
            await get_owned(session, Device, campaign.user_id, Device.id == wanted.device_id, Device.deleted_at.is_(None))
        except NotFound:
            return [FieldError("device_id", "is no device of yours")]
        campaign.device_id = wanted.device_id
    return []


def _problems(campaign: Campaign) -> list[FieldError]:
    errors = []
    if not campaign.title or len(campaign.title) > MAX_TITLE:
        errors.append(FieldError("title", f"must have 1 to {MAX_TITLE} characters"))
    if not campaign.message.strip() and campaign.image_url is None:
        errors.append(FieldError("message", "is required where there is no image_url"))
    if len(campaign.message) > MAX_MESSAGE:
        errors.append(FieldError("message", f"must have at most {MAX_MESSAGE} characters"))
    else:
        errors += _template_problems(campaign.message)
    errors += [
        FieldError(field, "contains a NUL character") for field in ("title", "message") if "\0" in getattr(campaign, field)
    ]
    if campaign.image_url is not None and not (is_web_url(campaign.image_url) or referenced_id(campaign.image_url)):
        reason = "must begin with https:// or http:// and name a host, or be the /api/media/… of a file of yours"
        errors.append(FieldError("image_url", reason))
    for field in ("min_delay_seconds", "max_delay_seconds"):
        if not 0 <= getattr(campaign, field) <= MAX_DELAY_SECONDS:
            errors.append(FieldError(field, f"must be 0 to {MAX_DELAY_SECONDS}"))
    if campaign.min_delay_seconds > campaign.max_delay_seconds:
        reason = f"must not be larger than max_delay_seconds ({campaign.max_delay_seconds})"
        errors.append(FieldError("min_delay_seconds", reason))
    return errors


def _template_problems(message: str) -> list[FieldError]:
    try:
        check_template(message)
    except Invalid as error:
        return list(error.errors)
    return []
