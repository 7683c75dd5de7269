"""Reports as CSV files, in pages: every page is a short transaction of its own, whatever time the reader takes."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from siaran.analytics import DayRange, count_by_device
from siaran.campaign_reports import CampaignFilter, Counts, DeviceRow, counts_by_campaign, device_report, list_campaigns
from siaran.campaigns import get_campaign
from siaran.db import SessionMaker
from siaran.leads_csv import write_records
from siaran.models import BroadcastMessage, Campaign, Device, MessageStatus
from siaran.schedule import format_time, zone_of
from siaran.tenancy import select_owned

PAGE_ROWS = 5_000
CAMPAIGNS_AT_ONCE = 500

_COUNT_COLUMNS = ("total", "pending", "success", "failed", "suppressed", "cancelled", "success_rate")
SUMMARY_COLUMNS = ("id", "title", "date", "day", "time", "niche", "target_status", "status", "reason", *_COUNT_COLUMNS)
DEVICE_COLUMNS = ("device_id", "device", "status", *_COUNT_COLUMNS)
LEAD_COLUMNS = ("name", "phone", "device", "status", "sent_at", "delivered_at", "read_at", "attempts", "error", "message_id")
ANALYTICS_COLUMNS = ("date", "device_id", "device", "sent", "received", "read", "replied", "failed")


def day_name(campaign: Campaign) -> str:
    """The weekday of a campaign's date, in English."""
    return f"{campaign.campaign_date:%A}"


def _counts(counts: Counts) -> tuple[str, ...]:
    numbers = (counts.total, counts.pending, counts.success, counts.not_sent, counts.suppressed, counts.cancelled)
    return (*map(str, numbers), str(counts.success_rate))


async def export_summary(sessions: SessionMaker, user_id: UUID, wanted: CampaignFilter) -> AsyncIterator[bytes]:
    """A user's campaigns that meet a filter, latest due first, with what became of their messages."""
    yield write_records([SUMMARY_COLUMNS])
    after: tuple[datetime, int] | None = None
    while True:
        async with sessions.begin() as session:
            rows = await list_campaigns(session, user_id, wanted, after=after, limit=CAMPAIGNS_AT_ONCE)
            counts = await counts_by_campaign(session, user_id, [campaign.id for campaign in rows])
        if not rows:
            return
        yield write_records([_summary_row(campaign, counts[campaign.id]) for campaign in rows])
        after = rows[-1].scheduled_at, rows[-1].id


def _summary_row(campaign: Campaign, counts: Counts) -> tuple[str, ...]:
    return (
        str(campaign.id),
        campaign.title,
        campaign.campaign_date.isoformat(),
        day_name(campaign),
        format_time(campaign.scheduled_time),
        campaign.niche,
        campaign.target_status.value,
        campaign.status.value,
        campaign.status_reason or "",
        *_counts(counts),
    )


async def export_device_report(sessions: SessionMaker, user_id: UUID, campaign_id: int) -> AsyncIterator[bytes]:
    """A campaign device by device, and in all; raises `NotFound` before the first row."""
    async with sessions.begin() as session:
        rows = await device_report(session, await get_campaign(session, user_id, campaign_id))
    total = sum((row.counts for row in rows), Counts())
    yield write_records([DEVICE_COLUMNS, *map(_device_row, rows), ("", "all devices", "", *_counts(total))])


def _device_row(row: DeviceRow) -> tuple[str, ...]:
    status = "deleted" if row.device.deleted_at is not None else row.device.status.value
    return (str(row.device.id), row.device.device_name, status, *_counts(row.counts))


async def export_recipients(
    sessions: SessionMaker,
    user_id: UUID,
    campaign_id: int,
    statuses: Sequence[MessageStatus],
    *,
    zone: str,
    device_id: UUID | None = None,
) -> AsyncIterator[bytes]:
    """The recipients of a campaign in these states, on one device or on all, by phone; times are local, with their offset.

    In the order of their phones everyone is there once, whatever happens to the messages meanwhile: a phone never changes.
    """
    yield write_records([LEAD_COLUMNS])
    zone_info, last_phone = zone_of(zone), ""
    async with sessions.begin() as session:
        names = await _device_names(session, user_id)
    while True:
        query = (
            select_owned(BroadcastMessage, user_id)
            .where(
                BroadcastMessage.campaign_id == campaign_id,
                BroadcastMessage.recipient_phone > last_phone,
                BroadcastMessage.status.in_(statuses),
            )
            .order_by(BroadcastMessage.recipient_phone)
            .limit(PAGE_ROWS)
        )
        if device_id is not None:
            query = query.where(BroadcastMessage.device_id == device_id)
        async with sessions.begin() as session:
            messages = (await session.scalars(query)).all()
        if not messages:
            return
        yield write_records([_recipient_row(message, names, zone_info) for message in messages])
        last_phone = messages[-1].recipient_phone


async def _device_names(session: AsyncSession, user_id: UUID) -> dict[UUID, str]:
    rows = await session.execute(select_owned(Device, user_id).with_only_columns(Device.id, Device.device_name))
    return {row.id: row.device_name for row in rows}


def _recipient_row(message: BroadcastMessage, names: dict[UUID, str], zone: ZoneInfo) -> tuple[str, ...]:
    return (
        message.recipient_name,
        message.recipient_phone,
        names.get(message.device_id, ""),
        message.status.value,
        _local(message.sent_at, zone),
        _local(message.delivered_at, zone),
        _local(message.read_at, zone),
        str(message.attempt),
        message.error_message or message.error_code or "",
        str(message.id),
    )


def _local(instant: datetime | None, zone: ZoneInfo) -> str:
    return "" if instant is None else instant.astimezone(zone).isoformat(sep=" ", timespec="seconds")


async def export_analytics(
    sessions: SessionMaker, user_id: UUID, days: DayRange, device_id: UUID | None = None
) -> AsyncIterator[bytes]:
    """The days of a range on which something happened, device by device."""
    yield write_records([ANALYTICS_COLUMNS])
    async with sessions.begin() as session:
        rows = await count_by_device(session, user_id, days, device_id)
    yield write_records(
        [
            (
                day.isoformat(),
                str(device),
                name,
                *map(str, (counts.sent, counts.received, counts.read, counts.replied, counts.failed)),
            )
            for day, device, name, counts in rows
        ]
    )
