"""How far a campaign is: what is still open, what its lanes wait for, and how it ends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.lane_standing import CAMPAIGN_PAUSED, CONNECTION, NEXT_DUE
from siaran.models import Campaign, CampaignStatus

FEW_PENDING = 1000
FEW_INTERVAL = timedelta(seconds=10)
MANY_INTERVAL = timedelta(seconds=30)
CLAIMED_INTERVAL = timedelta(seconds=3)

_DRAINED = text("""
    SELECT c.id FROM campaigns c
    WHERE c.user_id = :user AND c.status IN ('sending', 'waiting') AND c.expanded_at IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM broadcast_messages m
            WHERE m.campaign_id = c.id AND m.user_id = :user AND m.status IN ('pending', 'claimed')
        )
""")

_OPEN = text("""
    SELECT EXISTS (
        SELECT FROM broadcast_messages m WHERE m.campaign_id = :campaign AND m.user_id = :user AND m.status = 'pending'
    ) AS pending, EXISTS (
        SELECT FROM broadcast_messages m WHERE m.campaign_id = :campaign AND m.user_id = :user AND m.status = 'claimed'
    ) AS claimed, EXISTS (
        SELECT FROM campaign_retries r WHERE r.campaign_id = :campaign AND r.user_id = :user AND r.done_at IS NULL
    ) AS retries
""")

_TOTALS = text("""
    SELECT coalesce(sum(pending), 0)::int AS pending, coalesce(sum(sent + delivered + read), 0)::int AS succeeded,
        coalesce(sum(failed + unknown), 0)::int AS failed,
        coalesce(sum(suppressed), 0)::int AS suppressed, coalesce(sum(cancelled), 0)::int AS cancelled
    FROM campaign_counts WHERE campaign_id = :campaign AND user_id = :user
""")

# Every lane that holds messages of the campaign waits: then so does the campaign, for what the first of them waits for.
_LANES = text("""
    SELECT bool_and(l.state = 'waiting' AND l.waiting_for NOT IN (:next_due, :connection)) AS all_wait,
        (array_agg(l.waiting_for ORDER BY l.waiting_until_at NULLS LAST))[1] AS waiting_for,
        min(l.waiting_until_at) AS until_at
    FROM campaign_counts k JOIN lanes l ON l.device_id = k.device_id AND l.user_id = k.user_id
    WHERE k.campaign_id = :campaign AND k.user_id = :user AND k.pending > 0
""")

# A campaign's pending messages are always due: a lane that sleeps over them has not been told of them.
_FORGOTTEN = text("""
    SELECT l.device_id FROM campaign_counts k JOIN lanes l ON l.device_id = k.device_id AND l.user_id = k.user_id
    WHERE k.campaign_id = :campaign AND k.user_id = :user AND k.pending > 0 AND l.paused_at IS NULL
        AND (l.state = 'asleep' OR (l.state = 'waiting' AND l.waiting_for IN (:next_due, :campaign_paused)))
""")


@dataclass(frozen=True, slots=True)
class Totals:
    """Messages of a campaign by what became of them; `pending` includes claimed ones."""

    pending: int
    succeeded: int
    failed: int
    suppressed: int
    cancelled: int

    @property
    def total(self) -> int:
        """All messages; the parts always add up to it."""
        return self.pending + self.succeeded + self.failed + self.suppressed + self.cancelled


@dataclass(frozen=True, slots=True)
class OpenRows:
    """Whether anything of a campaign has not reached an end state."""

    pending: bool
    claimed: bool
    retries: bool


async def drained_campaigns(session: AsyncSession, user_id: UUID) -> list[int]:
    """A user's campaigns under way that have no open row left: their workflows may look at once."""
    return list((await session.execute(_DRAINED, {"user": user_id})).scalars())


async def open_rows(session: AsyncSession, user_id: UUID, campaign_id: int) -> OpenRows:
    """Decided by the rows themselves, never by a counter."""
    row = (await session.execute(_OPEN, {"campaign": campaign_id, "user": user_id})).one()
    return OpenRows(row.pending, row.claimed, row.retries)


async def totals(session: AsyncSession, user_id: UUID, campaign_id: int) -> Totals:
    """The counters of a campaign over all its devices."""
    row = (await session.execute(_TOTALS, {"campaign": campaign_id, "user": user_id})).one()
    return Totals(row.pending, row.succeeded, row.failed, row.suppressed, row.cancelled)


async def waiting_reason(session: AsyncSession, user_id: UUID, campaign_id: int) -> str | None:
    """What a campaign waits for when none of its lanes can send at the moment, for people to read; None while one can."""
    values = {"campaign": campaign_id, "user": user_id, "next_due": NEXT_DUE, "connection": CONNECTION}
    row = (await session.execute(_LANES, values)).one()
    if not row.all_wait:
        return None
    return f"every device with messages of this campaign waits: {row.waiting_for}"


async def forgotten_lanes(session: AsyncSession, user_id: UUID, campaign_id: int) -> list[UUID]:
    """The devices whose lanes sleep over messages of a campaign under way: whoever had to wake them died before."""
    values = {"campaign": campaign_id, "user": user_id, "next_due": NEXT_DUE, "campaign_paused": CAMPAIGN_PAUSED}
    return list((await session.execute(_FORGOTTEN, values)).scalars())


def end_of(totals_: Totals) -> tuple[CampaignStatus, str | None]:
    """How a campaign ends: `failed` only if nothing of it could be sent."""
    if totals_.succeeded:
        return CampaignStatus.SENT, None
    if totals_.total == 0:
        return CampaignStatus.FAILED, "no lead matches the niche and target status"
    if totals_.suppressed == totals_.total:
        return CampaignStatus.FAILED, "every matching lead has opted out"
    return CampaignStatus.FAILED, "no message could be sent"


def next_look(campaign: Campaign, rows: OpenRows, pending: int, now: datetime) -> datetime:
    """When to look at a campaign under way again, if no signal comes before; lanes that end give one."""
    if rows.claimed and not rows.pending:
        return now + CLAIMED_INTERVAL
    few = pending < FEW_PENDING or campaign.status is CampaignStatus.WAITING
    return now + (FEW_INTERVAL if few else MANY_INTERVAL)
