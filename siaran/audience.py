"""Whom a campaign or sequence addresses, and with which devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Text, and_, exists, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Device, DeviceStatus, Host, Lane, Lead, Suppression, TargetStatus
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
    """A linked device of a campaign's owner; `can_send` says that it could transmit at this moment,
    `next_send_at` when the gap after its last message is over."""

    device: Device
    next_send_at: datetime | None
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
        select(Device, Lane.next_send_at, can_send)
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
    return [AudienceDevice(device, next_at, sends) for device, next_at, sends in (await session.execute(query)).all()]
