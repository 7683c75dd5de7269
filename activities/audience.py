"""Audiences: turning the leads a campaign addresses into ledger rows, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.resources import Resources
from siaran.audience import audience_condition
from siaran.contracts import CampaignInput, ExpansionResult
from siaran.lanes import wake_lanes
from siaran.ledger.counters import Change, change_counters
from siaran.models import Campaign, CampaignStatus, Lead, MessageStatus, campaign_source
from siaran.stop_loss import canary_room
from siaran.tenancy import get_owned

PAGE = 2000
"""Leads turned into ledger rows in one transaction."""

MOST_PAGES = 25
"""Pages in one activity: then those get their turn who have waited meanwhile, so that no huge audience delays a small one."""

NO_DEVICE = "no linked device: link one and the campaign goes on by itself"

# Devices that are online come first; if none is, the linked ones, and the messages wait there. Those of a campaign whose one
# device was removed are written for it all the same: its lane fails them, so that everyone is accounted for.
_DEVICES = text("""
    SELECT d.id, d.status = 'online' AND h.id IS NOT NULL AND l.paused_at IS NULL
        AND (d.restricted_until_at IS NULL OR d.restricted_until_at <= :now) AS can_send
    FROM user_devices d
    JOIN lanes l ON l.device_id = d.id
    LEFT JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
    WHERE d.user_id = :user AND (CAST(:only AS uuid) IS NULL OR d.id = :only) AND (
        (d.deleted_at IS NULL AND d.is_active AND d.jid IS NOT NULL AND d.status NOT IN ('logged_out', 'banned'))
        OR (d.deleted_at IS NOT NULL AND d.id = :only)
    )
    ORDER BY d.created_at, d.id
""")

# The lead's own device alone (strategy `owner`), the device that wrote to the contact last (`sticky`), else round robin.
# A lead without a device of its own cannot be written to by strategy `owner`: its row says so from the start.
_EXPAND = text("""
    WITH page AS (
        SELECT l.id, l.phone, l.name, l.niche, l.device_id, row_number() OVER (ORDER BY l.id) - 1 AS position
        FROM leads l WHERE l.user_id = :user AND l.id = ANY(CAST(:leads AS bigint[]))
    ), placed AS (
        SELECT page.*, CASE :strategy
            WHEN 'owner' THEN (SELECT d.id FROM user_devices d
                WHERE d.id = page.device_id AND d.user_id = :user AND d.deleted_at IS NULL)
            WHEN 'sticky' THEN (SELECT m.device_id FROM broadcast_messages m
                WHERE m.user_id = :user AND m.recipient_phone = page.phone AND m.sent_at IS NOT NULL
                    AND m.device_id = ANY(CAST(:devices AS uuid[])) ORDER BY m.sent_at DESC LIMIT 1)
            END AS bound_to
        FROM page
    ), written AS (
        INSERT INTO broadcast_messages (user_id, device_id, campaign_id, lead_id, source, recipient_phone, recipient_name,
            recipient_niche, message_type, scheduled_at, cycle, status, error_code, error_message)
        SELECT :user, coalesce(bound_to,
                (CAST(:devices AS uuid[]))[1 + (position + :offset) % cardinality(CAST(:devices AS uuid[]))]),
            :campaign, id, :source, phone, name, niche, :type, :now, 0,
            CASE WHEN is_homeless THEN 'failed' ELSE 'pending' END, CASE WHEN is_homeless THEN 'no_own_device' END,
            CASE WHEN is_homeless THEN 'This lead has no device of its own to be written to from.' END
        FROM (SELECT placed.*, :strategy = 'owner' AND bound_to IS NULL AS is_homeless FROM placed) p ORDER BY id
        ON CONFLICT (campaign_id, recipient_phone) DO NOTHING
        RETURNING device_id, status
    )
    SELECT device_id, status, count(*) AS messages FROM written GROUP BY device_id, status
""")


@dataclass(frozen=True, slots=True)
class _Page:
    """What one page wrote; `state` says whether another follows."""

    state: str
    devices: dict[UUID, int]


class AudienceActivities:
    """The expansion of a campaign's audience, once, whatever runs follow."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources

    @activity.defn(name="expand_audience")
    async def expand_audience(self, campaign: CampaignInput) -> ExpansionResult:
        """Write the ledger rows of a campaign, its canary's first; goes on at the stored cursor after any crash or pause.

        Each page is one transaction that locks the campaign's row, checks its phase, writes rows, cursor and counters.
        """
        messages = 0
        devices: set[UUID] = set()
        for _ in range(MOST_PAGES):
            async with self._use.sessions.begin() as session:
                page = await expand_page(session, campaign, self._use.clock())
            messages += sum(page.devices.values())
            devices |= set(page.devices)
            await wake_lanes(self._use.sessions, self._use.client, self._use.redis, page.devices)
            activity.heartbeat(messages)
            if page.state != "more":
                return ExpansionResult(messages, len(devices), finished=page.state == "finished")
        return ExpansionResult(messages, len(devices), finished=False, has_more=True)


async def expand_page(session: AsyncSession, campaign: CampaignInput, now: datetime) -> _Page:
    """Write one page of ledger rows, or none where the campaign is not under way or no device is linked."""
    row = await get_owned(session, Campaign, campaign.user_id, Campaign.id == campaign.campaign_id, lock=True)
    if row.status not in {CampaignStatus.SENDING, CampaignStatus.WAITING} or row.deleted_at is not None:
        return _Page("stopped", {})
    if row.expanded_at is not None:
        return _Page("finished", {})
    devices = await _usable_devices(session, row, now)
    if not devices:
        row.status, row.status_reason = CampaignStatus.WAITING, NO_DEVICE
        return _Page("stopped", {})
    row.status, row.status_reason = CampaignStatus.SENDING, None
    room = canary_room(row)
    if room == 0:
        return _Page("finished", {})
    size = PAGE if room is None else min(PAGE, room)
    leads = await _next_leads(session, row, size)
    written = await _write_page(session, row, leads, devices, now)
    row.expanded += sum(change.count for change in written)
    await change_counters(session, written)
    placed = {change.device_id: change.count for change in written if change.after is MessageStatus.PENDING}
    if len(leads) < size:
        row.expanded_at = now
        return _Page("finished", placed)
    row.expansion_cursor = leads[-1]
    return _Page("more", placed)


async def _next_leads(session: AsyncSession, row: Campaign, size: int) -> Sequence[int]:
    addressed = audience_condition(row.user_id, row.niche, row.target_status)
    query = select(Lead.id).where(addressed, Lead.id > row.expansion_cursor).order_by(Lead.id).limit(size)
    return (await session.execute(query)).scalars().all()


async def _write_page(
    session: AsyncSession, row: Campaign, leads: Sequence[int], devices: Sequence[UUID], now: datetime
) -> list[Change]:
    """Insert a page's ledger rows; returns how many of which state went to which device."""
    written = await session.execute(
        _EXPAND,
        {
            "user": row.user_id,
            "campaign": row.id,
            "source": campaign_source(row.id),
            "leads": list(leads),
            "strategy": row.device_strategy.value,
            "devices": list(devices),
            "offset": row.expanded,
            "type": row.message_type,
            "now": now,
        },
    )
    return [
        Change(row.id, line.device_id, row.user_id, None, MessageStatus(line.status), line.messages, after_at=now)
        for line in written
    ]


async def _usable_devices(session: AsyncSession, row: Campaign, now: datetime) -> Sequence[UUID]:
    found = (await session.execute(_DEVICES, {"user": row.user_id, "only": row.device_id, "now": now})).all()
    return [device.id for device in found if device.can_send] or [device.id for device in found]
