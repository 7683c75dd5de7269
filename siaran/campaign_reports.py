"""What became of campaigns: counters, lists, the summary, and the report per device.

Everywhere *pending* is pending and claimed, *success* sent, delivered and read, *failed* failed and unknown; suppressed and
cancelled stand beside them, and all together are the total.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Select, Text, cast, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Campaign, CampaignCount, CampaignStatus, Device, DeviceStatus
from siaran.niches import parse_niches
from siaran.tenancy import select_owned

PENDING_CAMPAIGNS = (CampaignStatus.SCHEDULED, CampaignStatus.SENDING, CampaignStatus.WAITING, CampaignStatus.PAUSED)
FAILED_CAMPAIGNS = (CampaignStatus.FAILED, CampaignStatus.CANCELLED)

_TAG_SEPARATORS = r"\s*[,;\n\r\uFF0C\u3001\uFF1B]\s*"
"""Where `siaran.niches` cuts a text into tags, for PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages are in which state; `pending` includes the claimed ones."""

    pending: int = 0
    sent: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    unknown: int = 0
    suppressed: int = 0
    cancelled: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTERS))

    @property
    def success(self) -> int:
        """Those that reached WhatsApp's server, and perhaps the person."""
        return self.sent + self.delivered + self.read

    @property
    def not_sent(self) -> int:
        """Those that failed and those of which nobody can tell: the reports' *failed*."""
        return self.failed + self.unknown

    @property
    def total(self) -> int:
        """All of them."""
        return self.pending + self.success + self.not_sent + self.suppressed + self.cancelled

    @property
    def success_rate(self) -> float:
        """Percent of the messages that were tried and came to an end; 0 while there are none."""
        tried = self.success + self.not_sent
        return round(100 * self.success / tried, 1) if tried else 0.0


COUNTERS = tuple(field.name for field in fields(Counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignFilter:
    """Which campaigns to look at; dates are those of the campaigns, both ends included."""

    status: CampaignStatus | None = None
    niche: str = ""
    first: date | None = None
    last: date | None = None

    def apply(self, query: Select[Campaign]) -> Select[Campaign]:
        """The query for those only, and never for deleted ones; several tags of a niche mean any of them."""
        query = query.where(Campaign.deleted_at.is_(None))
        if self.status is not None:
            query = query.where(Campaign.status == self.status)
        if tags := parse_niches(self.niche):
            written = func.regexp_split_to_array(func.upper(func.btrim(Campaign.niche)), _TAG_SEPARATORS)
            query = query.where(cast(written, ARRAY(Text)).op("&&", is_comparison=True)(literal(tags, ARRAY(Text))))
        if self.first is not None:
            query = query.where(Campaign.campaign_date >= self.first)
        if self.last is not None:
            query = query.where(Campaign.campaign_date <= self.last)
        return query


async def list_campaigns(
    session: AsyncSession, user_id: UUID, wanted: CampaignFilter, *, after: tuple[datetime, int] | None, limit: int
) -> Sequence[Campaign]:
    """A user's campaigns, latest due first, beginning behind (`scheduled_at`, `id`)."""
    query = wanted.apply(select_owned(Campaign, user_id))
    if after is not None:
        query = query.where(tuple_(Campaign.scheduled_at, Campaign.id) < tuple_(*after))
    return (await session.scalars(query.order_by(Campaign.scheduled_at.desc(), Campaign.id.desc()).limit(limit))).all()


async def count_campaigns(session: AsyncSession, user_id: UUID, wanted: CampaignFilter) -> dict[CampaignStatus, int]:
    """How many of a user's campaigns are in which phase."""
    found = wanted.apply(select_owned(Campaign, user_id)).subquery()
    rows = (await session.execute(select(found.c.status, func.count()).group_by(found.c.status))).all()
    return {CampaignStatus(status): count for status, count in rows}


async def count_messages(session: AsyncSession, user_id: UUID, wanted: CampaignFilter) -> Counts:
    """The messages of a user's campaigns, added up."""
    ids = wanted.apply(select_owned(Campaign, user_id)).with_only_columns(Campaign.id)
    sums = [func.coalesce(func.sum(getattr(CampaignCount, name)), 0) for name in COUNTERS]
    query = select(*sums).where(CampaignCount.user_id == user_id, CampaignCount.campaign_id.in_(ids))
    return Counts(*list((await session.execute(query)).one()))


async def counts_by_campaign(session: AsyncSession, user_id: UUID, campaign_ids: Collection[int]) -> dict[int, Counts]:
    """The counters of some of a user's campaigns over all devices; campaigns without any messages have zeros."""
    sums = [func.sum(getattr(CampaignCount, name)) for name in COUNTERS]
    query = (
        select(CampaignCount.campaign_id, *sums)
        .where(CampaignCount.user_id == user_id, CampaignCount.campaign_id.in_(campaign_ids))
        .group_by(CampaignCount.campaign_id)
    )
    found = {row[0]: Counts(*row[1:]) for row in (await session.execute(query)).all()}
    return {campaign_id: found.get(campaign_id, Counts()) for campaign_id in campaign_ids}


async def counts_of(session: AsyncSession, campaign: Campaign) -> Counts:
    """The counters of one campaign over all devices."""
    return (await counts_by_campaign(session, campaign.user_id, [campaign.id]))[campaign.id]


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device's part in a campaign; a deleted device keeps its row."""

    device: Device
    counts: Counts

    @property
    def is_active(self) -> bool:
        """Whether the device is connected at the moment."""
        return self.device.deleted_at is None and self.device.status == DeviceStatus.ONLINE


async def device_report(session: AsyncSession, campaign: Campaign) -> list[DeviceRow]:
    """A campaign's devices in the order in which they were added.

    Before the audience is written into the ledger these are the devices that may take part, with zeros; from then on those that
    did, deleted ones included.
    """
    counts = await _counts_by_device(session, campaign)
    if campaign.expanded_at is None or not counts:
        eligible = select_owned(Device, campaign.user_id).where(Device.deleted_at.is_(None), Device.is_active)
        if campaign.device_id is not None:
            eligible = eligible.where(Device.id == campaign.device_id)
        counts |= {device.id: Counts() for device in await session.scalars(eligible) if device.id not in counts}
    query = select_owned(Device, campaign.user_id).where(Device.id.in_(counts)).order_by(Device.created_at, Device.id)
    return [DeviceRow(device, counts[device.id]) for device in await session.scalars(query)]


async def _counts_by_device(session: AsyncSession, campaign: Campaign) -> dict[UUID, Counts]:
    rows = await session.scalars(select_owned(CampaignCount, campaign.user_id).where(CampaignCount.campaign_id == campaign.id))
    return {row.device_id: Counts(*(getattr(row, name) for name in COUNTERS)) for row in rows}
