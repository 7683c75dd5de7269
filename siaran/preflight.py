"""What a campaign comes to before it starts: whom it reaches, over which devices, and when it will be done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Subquery, and_, false, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.audience import AudienceDevice, audience_condition, audience_devices
from siaran.estimates import finish_times, spread_evenly
from siaran.lane_loads import Candidate, lane_loads
from siaran.models import (
    BroadcastMessage,
    Campaign,
    CampaignCount,
    Device,
    DeviceStrategy,
    Lead,
    MessageStatus,
    Suppression,
    User,
)
from siaran.quiet_hours import SendingHours

NO_ACCOUNT = "not_on_whatsapp"
"""The error code of a message to a number that has no WhatsApp account."""


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """How many messages a device gets, next to how many of others, and when it has sent the last of its own.

    They wait while it cannot send: then nobody knows when.
    """

    device: Device
    can_send: bool
    messages: int
    backlog: int = 0
    finishes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AudienceCounts:
    """How many leads match, and how many of them are not written to, each counted under the first reason that holds.

    They have opted out; they have had as many messages as their user allows by the time of the start; they have no device of
    their own for a campaign of strategy `owner`. `invalid` of the others have a number without an account, as an earlier
    campaign found: they are tried once more. `own` are the others by the device they belong to.
    """

    matched: int
    suppressed: int
    limited: int
    without_device: int
    invalid: int
    own: Mapping[UUID, int]

    @property
    def recipients(self) -> int:
        """How many are written to."""
        return self.matched - self.suppressed - self.limited - self.without_device


@dataclass(frozen=True, slots=True)
class Preflight:
    """What happens when a campaign starts at `starts_at` with the leads, devices and backlog of now.

    Of one that is under way, `messages`, `shares` and `finishes_at` are about what is left of it. `finishes_at` is about the
    devices that can send, None while there is none.
    """

    audience: AudienceCounts
    messages: int
    shares: Sequence[DeviceShare]
    starts_at: datetime
    finishes_at: datetime | None

    @property
    def duration(self) -> timedelta | None:
        """From the start to the last message."""
        return None if self.finishes_at is None else self.finishes_at - self.starts_at

    @property
    def waiting(self) -> int:
        """How many messages would wait for a device."""
        return self.messages - sum(share.messages for share in self.shares if share.can_send)


async def check_before_start(session: AsyncSession, campaign: Campaign, now: datetime) -> Preflight:
    """Count a campaign's audience, deal it out to the devices, and estimate the end.

    Contacts whom the strategy `sticky` ties to a device are dealt out like the others: that evens out over many.
    """
    user = await session.get_one(User, campaign.user_id)
    starts_at = max(campaign.scheduled_at, now)
    audience = await _count_audience(session, campaign, user, starts_at)
    devices = await audience_devices(session, campaign.user_id, campaign.device_id, now)
    if campaign.expanded_at is None:
        bound = audience.own if campaign.device_strategy is DeviceStrategy.OWNER else None
        messages, dealt = audience.recipients, _deal_out(audience.recipients, bound, devices)
    else:
        dealt = await _messages_left(session, campaign)
        messages = sum(dealt.values())
    hours = SendingHours(user.timezone, user.quiet_from, user.quiet_until, frozenset(user.sending_weekdays))
    shares = await _estimate(session, campaign, devices, dealt, hours=hours, starts_at=starts_at, now=now)
    ends = [share.finishes_at or starts_at for share in shares if share.can_send]
    return Preflight(audience, messages, shares, starts_at, max(ends, default=None))


async def _estimate(
    session: AsyncSession,
    campaign: Campaign,
    devices: Sequence[AudienceDevice],
    dealt: Mapping[UUID, int],
    *,
    hours: SendingHours,
    starts_at: datetime,
    now: datetime,
) -> list[DeviceShare]:
    senders = [Candidate(item.device, item.next_send_at, dealt.get(item.device.id, 0)) for item in devices if item.can_send]
    loads = await lane_loads(session, campaign.user_id, senders, campaign_id=campaign.id, starts_at=starts_at, now=now)
    ends = finish_times(
        [(dealt.get(device_id, 0), load) for device_id, load in loads.items()],
        min_delay_seconds=campaign.min_delay_seconds,
        max_delay_seconds=campaign.max_delay_seconds,
        starts_at=starts_at,
        now=now,
        hours=hours,
    )
    finishes = dict(zip(loads, ends, strict=True))
    return [
        DeviceShare(
            item.device,
            item.can_send,
            dealt.get(item.device.id, 0),
            sum(queue.messages for queue in loads[item.device.id].backlog) if item.can_send else 0,
            finishes.get(item.device.id),
        )
        for item in devices
    ]


def _deal_out(recipients: int, bound: Mapping[UUID, int] | None, devices: Sequence[AudienceDevice]) -> dict[UUID, int]:
    """Bound messages go to their own device and nowhere else; others in turn to those that can send, or to all if none can."""
    if bound is not None:
        return dict(bound)
    takers = [item.device.id for item in devices if item.can_send] or [item.device.id for item in devices]
    return dict(zip(takers, spread_evenly(recipients, len(takers)), strict=True))


async def _messages_left(session: AsyncSession, campaign: Campaign) -> dict[UUID, int]:
    rows = await session.execute(
        select(CampaignCount.device_id, CampaignCount.pending).where(
            CampaignCount.user_id == campaign.user_id, CampaignCount.campaign_id == campaign.id, CampaignCount.pending > 0
        )
    )
    return {row.device_id: row.pending for row in rows}


async def _count_audience(session: AsyncSession, campaign: Campaign, user: User, starts_at: datetime) -> AudienceCounts:
    """One pass over the matching leads; those of the other lists are few, or hashed."""
    opted_out = _opted_out(user.id)
    had_enough = _had_enough(user, starts_at)
    no_account = _no_account(user.id)
    is_out = opted_out.c.phone.is_not(None)
    is_limited = and_(~is_out, had_enough.c.phone.is_not(None))
    is_left: ColumnElement[bool] = and_(~is_out, had_enough.c.phone.is_(None))
    query = (
        select(
            Device.id.label("device_id"),
            func.count().label("matched"),
            func.count().filter(is_out).label("out"),
            func.count().filter(is_limited).label("limited"),
            func.count().filter(is_left, no_account.c.phone.is_not(None)).label("invalid"),
        )
        .select_from(Lead)
        .outerjoin(opted_out, opted_out.c.phone == Lead.phone)
        .outerjoin(had_enough, had_enough.c.phone == Lead.phone)
        .outerjoin(no_account, no_account.c.phone == Lead.phone)
        .outerjoin(Device, and_(Device.id == Lead.device_id, Device.user_id == user.id, Device.deleted_at.is_(None)))
        .where(audience_condition(campaign.user_id, campaign.niche, campaign.target_status))
        .group_by(Device.id)
    )
    rows = (await session.execute(query)).all()
    homeless = sum(row.matched - row.out - row.limited for row in rows if row.device_id is None)
    return AudienceCounts(
        matched=sum(row.matched for row in rows),
        suppressed=sum(row.out for row in rows),
        limited=sum(row.limited for row in rows),
        without_device=homeless if campaign.device_strategy is DeviceStrategy.OWNER else 0,
        invalid=sum(row.invalid for row in rows),
        own={row.device_id: row.matched - row.out - row.limited for row in rows if row.device_id is not None},
    )


def _opted_out(user_id: UUID) -> Subquery:
    query = select(Suppression.phone).where(Suppression.user_id == user_id, Suppression.lifted_at.is_(None))
    return query.subquery("opted_out")


def _had_enough(user: User, starts_at: datetime) -> Subquery:
    """Phones to which as many messages were sent, in the days before the start, as the user allows."""
    phone = BroadcastMessage.recipient_phone.label("phone")
    query = select(phone).where(BroadcastMessage.user_id == user.id)
    if user.contact_limit is None:
        return query.where(false()).subquery("had_enough")
    since_at = starts_at - timedelta(days=user.contact_limit_days)
    query = query.where(BroadcastMessage.sent_at > since_at).group_by(phone).having(func.count() >= user.contact_limit)
    return query.subquery("had_enough")


def _no_account(user_id: UUID) -> Subquery:
    """Phones that WhatsApp said have no account; looked for in the campaigns that had failures."""
    with_failures = select(CampaignCount.campaign_id).where(CampaignCount.user_id == user_id, CampaignCount.failed > 0)
    query = select(BroadcastMessage.recipient_phone.label("phone")).where(
        BroadcastMessage.user_id == user_id,
        BroadcastMessage.campaign_id.in_(with_failures),
        BroadcastMessage.status == MessageStatus.FAILED,
        BroadcastMessage.error_code == NO_ACCOUNT,
    )
    return query.distinct().subquery("no_account")
