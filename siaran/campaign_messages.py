"""The messages of a campaign, by device and by what became of them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Text, Uuid, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import Invalid
from siaran.models import BroadcastMessage, Campaign, CampaignCount, Device, MessageStatus
from siaran.tenancy import get_owned, select_owned

GROUPS: dict[str, tuple[MessageStatus, ...]] = {
    "all": tuple(MessageStatus),
    "pending": (MessageStatus.PENDING, MessageStatus.CLAIMED),
    "success": (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ),
    "failed": (MessageStatus.FAILED, MessageStatus.UNKNOWN),
    "sent": (MessageStatus.SENT,),
    "delivered": (MessageStatus.DELIVERED,),
    "read": (MessageStatus.READ,),
    "unknown": (MessageStatus.UNKNOWN,),
    "suppressed": (MessageStatus.SUPPRESSED,),
    "cancelled": (MessageStatus.CANCELLED,),
}
"""What can be asked for: the groups that reports count, and single states."""


def parse_group(name: str) -> tuple[MessageStatus, ...]:
    """The states that a filter stands for; raises `Invalid` for the field `status`."""
    try:
        return GROUPS[name.strip().lower() or "all"]
    except KeyError as error:
        raise Invalid.field("status", f"must be one of {', '.join(GROUPS)}") from error


async def campaign_messages(
    session: AsyncSession,
    campaign: Campaign,
    statuses: Sequence[MessageStatus],
    *,
    device_id: UUID | None = None,
    after: int | None = None,
    limit: int,
) -> Sequence[BroadcastMessage]:
    """A campaign's messages in these states, on one device or on all, by id, beginning behind `after`.

    The index holds them by campaign, device, state and id. So each device and state is read on its own up to the limit and then
    merged: a page costs the same in a campaign of a thousand and of a million. Raises `NotFound` for a device of somebody else.
    """
    if device_id is None:
        query = select(CampaignCount.device_id).where(
            CampaignCount.user_id == campaign.user_id, CampaignCount.campaign_id == campaign.id
        )
        devices = list(await session.scalars(query))
    else:
        await get_owned(session, Device, campaign.user_id, Device.id == device_id)
        devices = [device_id]
    device = func.unnest(literal(devices, ARRAY(Uuid))).table_valued("id", name="device").render_derived()
    status = (
        func.unnest(literal([str(status) for status in statuses], ARRAY(Text)))
        .table_valued("value", name="status")
        .render_derived()
    )
    # Ids alone first, which the index has: a page of every state of 15 devices looks at 135 runs of it.
    run = (
        select(BroadcastMessage.id)
        .where(
            BroadcastMessage.campaign_id == campaign.id,
            BroadcastMessage.device_id == device.c.id,
            BroadcastMessage.status == status.c["value"],
            BroadcastMessage.id > (after or 0),
        )
        .order_by(BroadcastMessage.id)
        .limit(limit)
        .lateral("run")
    )
    merged = select(run.c.id).select_from(device).join(status, true()).join(run, true()).order_by(run.c.id).limit(limit)
    page = select_owned(BroadcastMessage, campaign.user_id).where(BroadcastMessage.id.in_(merged.subquery().select()))
    return (await session.scalars(page.order_by(BroadcastMessage.id))).all()
