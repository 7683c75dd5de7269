"""What devices have sent of late and still have to send, as the ledger shows it: what a forecast of their lanes starts from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.forecasts import LaneLoad, Queue, WarmUp
from siaran.models import Device
from siaran.pacing import DAY, HOUR, Caps

FINE_DEVICES = 50
"""Up to so many devices, attempts are counted by the minute and by ten minutes; above, ten times as coarsely."""

_ATTEMPTS = text("""
    SELECT device_id, max(attempted_at) AS until_at, count(*) AS attempts
    FROM message_attempts
    WHERE user_id = :user AND device_id = ANY(CAST(:devices AS uuid[])) AND attempted_at > :day_ago
        AND outcome <> 'not_attempted'
    GROUP BY device_id, attempted_at > :hour_ago,
        floor(extract(epoch FROM attempted_at) / CASE WHEN attempted_at > :hour_ago THEN :fine ELSE :coarse END)
    ORDER BY device_id, until_at
""")

# Campaigns are counted already; of the rest, few rows wait at a time.
_BACKLOG = text("""
    SELECT k.device_id, k.pending AS messages, c.min_delay_seconds AS low, c.max_delay_seconds AS high
    FROM campaign_counts k JOIN campaigns c ON c.id = k.campaign_id AND c.user_id = k.user_id
    WHERE k.user_id = :user AND k.device_id = ANY(CAST(:devices AS uuid[])) AND k.pending > 0
        AND c.status IN ('sending', 'waiting') AND c.id <> :campaign
    UNION ALL
    SELECT m.device_id, m.messages, coalesce(q.min_delay_seconds, d.min_delay_seconds),
        coalesce(q.max_delay_seconds, d.max_delay_seconds)
    FROM (
        SELECT device_id, sequence_id, count(*) AS messages FROM broadcast_messages
        WHERE user_id = :user AND device_id = ANY(CAST(:devices AS uuid[])) AND status = 'pending'
            AND (source < 'campaign:' OR source >= 'campaign;') AND scheduled_at <= :until
        GROUP BY device_id, sequence_id
    ) m
    JOIN user_devices d ON d.id = m.device_id
    LEFT JOIN sequences q ON q.id = m.sequence_id AND q.user_id = :user
    WHERE m.sequence_id IS NULL OR q.status = 'active'
""")


async def lane_loads(
    session: AsyncSession,
    user_id: UUID,
    devices: Mapping[UUID, tuple[Device, datetime | None]],
    *,
    campaign_id: int,
    starts_at: datetime,
    now: datetime,
) -> dict[UUID, LaneLoad]:
    """The load of each of a user's devices, given with the ends of the gaps after their last messages.

    The backlog is that of other campaigns and sequences under way, and of one-off messages, as far as it is due at `starts_at`.
    """
    if not devices:
        return {}
    attempts = await _attempts(session, user_id, list(devices), now)
    backlog: defaultdict[UUID, list[Queue]] = defaultdict(list)
    values = {"user": user_id, "devices": list(devices), "campaign": campaign_id, "until": max(starts_at, now)}
    for row in await session.execute(_BACKLOG, values):
        backlog[row.device_id].append(Queue(row.messages, row.low, row.high))
    return {
        device_id: LaneLoad(
            Caps(device.max_per_minute, device.max_per_hour, device.max_per_day),
            max(next_send_at or now, now),
            tuple(attempts.get(device_id, ())),
            tuple(backlog.get(device_id, ())),
            _warm_up(device),
        )
        for device_id, (device, next_send_at) in devices.items()
    }


async def _attempts(
    session: AsyncSession, user_id: UUID, devices: Sequence[UUID], now: datetime
) -> Mapping[UUID, Sequence[tuple[datetime, int]]]:
    coarser = 1 if len(devices) <= FINE_DEVICES else 10
    values = {
        "user": user_id,
        "devices": devices,
        "day_ago": now - DAY,
        "hour_ago": now - HOUR,
        "fine": 60 * coarser,
        "coarse": 600 * coarser,
    }
    found: defaultdict[UUID, list[tuple[datetime, int]]] = defaultdict(list)
    for row in await session.execute(_ATTEMPTS, values):
        found[row.device_id].append((row.until_at, row.attempts))
    return found


def _warm_up(device: Device) -> WarmUp | None:
    started_at, first_day, daily_step = device.warm_up_started_at, device.warm_up_first_day, device.warm_up_daily_step
    if started_at is None or first_day is None or daily_step is None:
        return None
    return WarmUp(started_at, first_day, daily_step)
