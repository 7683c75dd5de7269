"""Rebalancing: a device that has come back, or works faster, takes over pending messages of a campaign from the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.ledger.counters import Change, change_counters
from siaran.models import Campaign, DeviceStrategy, MessageStatus

BATCH = 1000
"""Rows moved in one transaction."""

WORTH_MOVING = 5
"""A device that has this many messages fewer than the average is given some."""

_LOADS = text("""
    SELECT d.id, coalesce(k.pending, 0) AS pending
    FROM user_devices d
    JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
    JOIN lanes l ON l.device_id = d.id AND l.paused_at IS NULL
    LEFT JOIN campaign_counts k ON k.device_id = d.id AND k.campaign_id = :campaign AND k.user_id = :user
    WHERE d.user_id = :user AND d.status = 'online' AND d.is_active AND d.deleted_at IS NULL
        AND (d.restricted_until_at IS NULL OR d.restricted_until_at <= :now)
""")

# From the end of the queue, where nobody is about to claim; a contact who has a chat with a device stays there (`sticky`).
_SHIFT = text("""
    WITH moving AS MATERIALIZED (
        SELECT m.id FROM broadcast_messages m
        WHERE m.campaign_id = :campaign AND m.user_id = :user AND m.status = 'pending' AND m.device_id = :source
            AND (NOT :sticky OR NOT has_chat(m.user_id, m.device_id, m.recipient_phone))
        ORDER BY m.id DESC LIMIT :batch
        FOR UPDATE SKIP LOCKED
    )
    UPDATE broadcast_messages m SET device_id = :target
    FROM moving WHERE m.id = moving.id AND m.status = 'pending' AND m.device_id = :source
""")


@dataclass(frozen=True, slots=True)
class Shift:
    """So many pending messages go from one device to another."""

    source: UUID
    target: UUID
    messages: int


def plan_shifts(pending: Mapping[UUID, int]) -> list[Shift]:
    """What evens out the devices that can send; nothing while each has at least half of the average.

    Devices of different speed drift apart all the time: evening out every difference would move messages to and fro.
    """
    if len(pending) < 2:
        return []
    average = sum(pending.values()) / len(pending)
    poor = {device: count for device, count in pending.items() if count < average / 2 and average - count >= WORTH_MOVING}
    rich = sorted(((count, device) for device, count in pending.items() if count > average), reverse=True)
    shifts: list[Shift] = []
    spare = {device: count - ceil(average) for count, device in rich}
    for device in sorted(poor, key=lambda device: (poor[device], device)):
        missing = int(average) - poor[device]
        for source in list(spare):
            number = min(missing, spare[source])
            if number > 0:
                shifts.append(Shift(source, device, number))
                spare[source] -= number
                missing -= number
    return shifts


async def due_shifts(session: AsyncSession, campaign: Campaign, now: datetime) -> list[Shift]:
    """What would even out a campaign now; nothing where its messages are bound to their devices."""
    if campaign.device_strategy is DeviceStrategy.OWNER or campaign.device_id is not None:
        return []
    rows = await session.execute(_LOADS, {"user": campaign.user_id, "campaign": campaign.id, "now": now})
    return plan_shifts({row.id: row.pending for row in rows})


async def shift_batch(session: AsyncSession, campaign: Campaign, shift: Shift) -> int:
    """Move up to `BATCH` messages of a shift; returns how many. The caller commits."""
    moved = await session.execute(
        _SHIFT,
        {
            "campaign": campaign.id,
            "user": campaign.user_id,
            "source": shift.source,
            "target": shift.target,
            "sticky": campaign.device_strategy is DeviceStrategy.STICKY,
            "batch": min(shift.messages, BATCH),
        },
    )
    count: int = moved.rowcount  # type: ignore[attr-defined]  # an UPDATE's result has it; the session's type does not say so
    pending = MessageStatus.PENDING
    await change_counters(
        session,
        [
            Change(campaign.id, shift.source, campaign.user_id, pending, None, count),
            Change(campaign.id, shift.target, campaign.user_id, None, pending, count),
        ],
    )
    return count
