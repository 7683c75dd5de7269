"""Whom a campaign or sequence addresses, with which devices, and what that comes to before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Text, and_, exists, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.estimates import Caps, campaign_duration, spread_evenly
from siaran.models import Campaign, Device, DeviceStatus, DeviceStrategy, Host, Lane, Lead, Suppression, TargetStatus
from siaran.niches import parse_niches

EVERY_STATUS = "all"
"""The target status of a sequence that addresses prospects and customers alike."""


def audience_condition(user_id: UUID, niche: str, target_status: str) -> ColumnElement[bool]:
    """What a row of `leads` must meet: the owner, any of the niche's whole tags, and the target status.

    An empty niche matches every lead of the user; several tags, comma-separated, match a lead that has any of them.
    `target_status` is `prospect`, `customer` or, for sequences, `all`.
    """
    conditions = [Lead.user_id == user_id]
    if tags := parse_niches(niche):
        conditions.append(Lead.niches.op("&&", is_comparison=True)(literal(tags, ARRAY(Text))))
    if target_status != EVERY_STATUS:
        conditions.append(Lead.target_status == TargetStatus(target_status))
    return and_(*conditions)


def is_suppressed() -> ColumnElement[bool]:
    """Whether a row of `leads` has opted out of its user's messages."""
    return exists().where(Suppression.user_id == Lead.user_id, Suppression.phone == Lead.phone, Suppression.lifted_at.is_(None))


@dataclass(frozen=True, slots=True)
class AudienceDevice:
    """A linked device of a campaign's owner; `can_send` says that it could transmit at this moment."""

    device: Device
    can_send: bool


async def audience_devices(session: AsyncSession, user_id: UUID, only: UUID | None, now: datetime) -> Sequence[AudienceDevice]:
    """The devices among which a campaign's messages are dealt out, in a fixed order; `only` restricts it to that one."""
    can_send = and_(
        Device.status == DeviceStatus.ONLINE,
        Host.id.is_not(None),
        Lane.paused_at.is_(None),
        or_(Device.restricted_until_at.is_(None), Device.restricted_until_at <= now),
    )
    query = (
        select(Device, can_send)
        .join(Lane, Lane.device_id == Device.id)
        .outerjoin(Host, and_(Host.id == Device.host_id, Host.ended_at.is_(None), Host.expires_at > func.now()))
        .where(
            Device.user_id == user_id,
            Device.deleted_at.is_(None),
            Device.is_active,
            Device.jid.is_not(None),
            Device.status.not_in([DeviceStatus.LOGGED_OUT, DeviceStatus.BANNED]),
        )
        .order_by(Device.created_at, Device.id)
    )
    if only is not None:
        query = query.where(Device.id == only)
    return [AudienceDevice(device, sends) for device, sends in (await session.execute(query)).all()]


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """How many messages a device would get; they wait while it cannot send."""

    device: Device
    can_send: bool
    messages: int


@dataclass(frozen=True, slots=True)
class Preflight:
    """What would happen if a campaign started at `starts_at` with the leads and devices of now.

    `suppressed` of the `matched` leads have opted out; they are counted in the campaign and not written to. `duration` is that
    of the devices that can send, `None` while there is none.
    """

    matched: int
    suppressed: int
    shares: Sequence[DeviceShare]
    starts_at: datetime
    duration: timedelta | None

    @property
    def recipients(self) -> int:
        """How many would be written to."""
        return self.matched - self.suppressed

    @property
    def waiting(self) -> int:
        """How many of them would wait for a device."""
        return self.recipients - sum(share.messages for share in self.shares if share.can_send)


async def check_before_start(session: AsyncSession, campaign: Campaign, now: datetime) -> Preflight:
    """Count a campaign's audience, deal it out to the devices, and estimate the end.

    Contacts whom the strategy `sticky` ties to a device are dealt out like the others: that evens out over many.
    """
    matched, suppressed, own = await _count_leads(session, campaign)
    devices = await audience_devices(session, campaign.user_id, campaign.device_id, now)
    bound = own if campaign.device_strategy == DeviceStrategy.OWNER else {}
    shares = _deal_out(matched - suppressed, bound, devices)
    caps = [
        (share.messages, Caps(share.device.max_per_minute, share.device.max_per_hour, share.device.max_per_day))
        for share in shares
        if share.can_send
    ]
    return Preflight(
        matched=matched,
        suppressed=suppressed,
        shares=shares,
        starts_at=max(campaign.scheduled_at, now),
        duration=campaign_duration(
            caps, min_delay_seconds=campaign.min_delay_seconds, max_delay_seconds=campaign.max_delay_seconds
        ),
    )


def _deal_out(recipients: int, bound: Mapping[UUID, int], devices: Sequence[AudienceDevice]) -> list[DeviceShare]:
    """Bound messages go to their device, the rest in turn to those that can send, or to all while none can."""
    shares = {item.device.id: bound.get(item.device.id, 0) for item in devices}
    takers = [item.device.id for item in devices if item.can_send] or list(shares)
    rest = recipients - sum(shares.values())
    for device_id, messages in zip(takers, spread_evenly(rest, len(takers)), strict=True):
        shares[device_id] += messages
    return [DeviceShare(item.device, item.can_send, shares[item.device.id]) for item in devices]


async def _count_leads(session: AsyncSession, campaign: Campaign) -> tuple[int, int, dict[UUID, int]]:
    """How many leads match, how many of them have opted out, and how many of the others each device owns."""
    query = (
        select(Lead.device_id, func.count(), func.count().filter(is_suppressed()))
        .where(audience_condition(campaign.user_id, campaign.niche, campaign.target_status))
        .group_by(Lead.device_id)
    )
    rows = [(device_id, total, opted_out) for device_id, total, opted_out in (await session.execute(query)).all()]
    own = {device_id: total - opted_out for device_id, total, opted_out in rows if device_id is not None}
    return sum(total for _, total, _ in rows), sum(opted_out for _, _, opted_out in rows), own
