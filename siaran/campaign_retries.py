"""Requests to send failed messages again; a campaign's workflow carries each out once, by its id.

A request takes what is retryable in its scope and was last tried before it was made. So a row is queued as soon as an open
request covers it, and a second click counts only what none covers: the campaign's row is locked while that is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, func, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_campaign
from siaran.campaigns import get_campaign
from siaran.errors import Conflict
from siaran.models import BroadcastMessage, Campaign, CampaignRetry, CampaignStatus, Device, MessageStatus
from siaran.tenancy import get_owned, select_owned

MAY_DUPLICATE = "nobody can tell whether this message was delivered, so the person may get it twice; repeat with confirm=true"

_REFUSALS = {
    MessageStatus.SENT: "the message was sent",
    MessageStatus.DELIVERED: "the message was delivered",
    MessageStatus.READ: "the message was read",
    MessageStatus.SUPPRESSED: "the contact has opted out",
    MessageStatus.CANCELLED: "the message was cancelled",
}


@dataclass(frozen=True, slots=True)
class Retry:
    """How many messages a request has queued; `request_ids` are all that are open, to be signalled, earlier ones included."""

    queued: int
    request_ids: Sequence[UUID]


async def request_campaign_retry(
    session: AsyncSession, user_id: UUID, campaign_id: int, *, device_id: UUID | None, requested_by: UUID, now: datetime
) -> Retry:
    """Ask for every failed message of a campaign, or of one device in it, that can be retried.

    Raises `NotFound` for a device of somebody else and `Conflict` for a campaign that is cancelled or deleted.
    """
    campaign = await _lock_for_retry(session, user_id, campaign_id)
    if device_id is not None:
        await get_owned(session, Device, user_id, Device.id == device_id)
    queued = await session.scalar(_count_retryable(campaign, device_id, now)) or 0
    earlier = await _open_requests(session, campaign)
    if queued == 0:
        return Retry(0, earlier)
    request_id = await _add_request(session, campaign, requested_by, now, device_id=device_id)
    note_campaign(session, campaign, "retried", messages=queued, **({"device": str(device_id)} if device_id else {}))
    return Retry(queued, [*earlier, request_id])


async def request_message_retry(
    session: AsyncSession, user_id: UUID, campaign_id: int, message_id: int, *, confirm: bool, requested_by: UUID, now: datetime
) -> Retry:
    """Ask for one message, the only way out of `unknown`, which `confirm` has to be given for.

    One that is queued already counts 0. Raises `Conflict` with the reason for what cannot be sent again.
    """
    campaign = await _lock_for_retry(session, user_id, campaign_id)
    message = await get_owned(
        session, BroadcastMessage, user_id, BroadcastMessage.id == message_id, BroadcastMessage.campaign_id == campaign.id
    )
    if not may_retry(message, confirm=confirm):
        return Retry(0, [])
    earlier = await _open_requests(session, campaign)
    if await session.scalar(select(_is_queued()).where(BroadcastMessage.id == message.id)):
        return Retry(0, earlier)
    request_id = await _add_request(session, campaign, requested_by, now, message_id=message_id)
    note_campaign(session, campaign, "retried", messages=1, message=message_id)
    return Retry(1, [*earlier, request_id])


def may_retry(message: BroadcastMessage, *, confirm: bool) -> bool:
    """Whether a person may have this message sent again: not while it is queued already.

    Raises `Conflict` with the reason for what cannot be sent again, and for an `unknown` one unless `confirm` is given.
    """
    status = MessageStatus(message.status)
    if status in {MessageStatus.PENDING, MessageStatus.CLAIMED}:
        return False
    if status in _REFUSALS:
        raise Conflict(f"{_REFUSALS[status]} and is not sent again")
    if status is MessageStatus.FAILED and not message.is_retryable:
        raise Conflict(f"sending it again cannot help: {message.error_message or message.error_code or 'it failed for good'}")
    if status is MessageStatus.UNKNOWN and not confirm:
        raise Conflict(MAY_DUPLICATE)
    return True


async def _lock_for_retry(session: AsyncSession, user_id: UUID, campaign_id: int) -> Campaign:
    campaign = await get_campaign(session, user_id, campaign_id, lock=True, with_deleted=True)
    if campaign.deleted_at is not None:
        raise Conflict("the campaign is deleted; nothing of it is sent again")
    if campaign.status == CampaignStatus.CANCELLED:
        raise Conflict("the campaign is cancelled; nothing of it is sent again")
    return campaign


async def _add_request(
    session: AsyncSession,
    campaign: Campaign,
    requested_by: UUID,
    now: datetime,
    *,
    device_id: UUID | None = None,
    message_id: int | None = None,
) -> UUID:
    request = CampaignRetry(
        user_id=campaign.user_id,
        campaign_id=campaign.id,
        device_id=device_id,
        message_id=message_id,
        requested_by=requested_by,
        requested_at=now,
    )
    session.add(request)
    await session.flush()
    return request.id


async def _open_requests(session: AsyncSession, campaign: Campaign) -> list[UUID]:
    query = select_owned(CampaignRetry, campaign.user_id).where(
        CampaignRetry.campaign_id == campaign.id, CampaignRetry.done_at.is_(None)
    )
    ordered = query.order_by(CampaignRetry.requested_at, CampaignRetry.id)
    return [request.id for request in await session.scalars(ordered)]


def _is_queued() -> ColumnElement[bool]:
    """Whether an open request will take a row of the ledger; one for many messages never takes an `unknown` one."""
    return exists().where(
        CampaignRetry.user_id == BroadcastMessage.user_id,
        CampaignRetry.campaign_id == BroadcastMessage.campaign_id,
        CampaignRetry.done_at.is_(None),
        CampaignRetry.requested_at > BroadcastMessage.claimed_at,
        or_(CampaignRetry.device_id.is_(None), CampaignRetry.device_id == BroadcastMessage.device_id),
        or_(
            CampaignRetry.message_id == BroadcastMessage.id,
            and_(CampaignRetry.message_id.is_(None), BroadcastMessage.status == MessageStatus.FAILED),
        ),
    )


def _count_retryable(campaign: Campaign, device_id: UUID | None, now: datetime) -> Select[int]:
    """How many failed messages of the scope can be retried and are in no open request."""
    query = (
        select(func.count())
        .select_from(BroadcastMessage)
        .where(
            BroadcastMessage.user_id == campaign.user_id,
            BroadcastMessage.campaign_id == campaign.id,
            BroadcastMessage.status == MessageStatus.FAILED,
            BroadcastMessage.is_retryable,
            BroadcastMessage.claimed_at < now,
            not_(_is_queued()),
        )
    )
    return query if device_id is None else query.where(BroadcastMessage.device_id == device_id)
