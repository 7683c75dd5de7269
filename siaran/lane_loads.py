"""What devices have sent of late and still have to send, as the ledger shows it: what a forecast of their lanes starts from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.forecasts import LaneLoad, Queue, WarmUp
from siaran.models import Device
from siaran.pacing import DAY, HOUR, Caps
from siaran.warm_up import daily_cap

FINE_DEVICES = 50
"""Up to so many devices, attempts are counted by the minute and by ten minutes; above, ten times as coarsely."""

_ATTEMPTED = text("""
    SELECT device_id, count(*) AS attempts FROM message_attempts
    WHERE user_id = :user AND device_id = ANY(CAST(:devices AS uuid[])) AND attempted_at > :day_ago
        AND outcome <> 'not_attempted'
    GROUP BY device_id
""")

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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that may send, the end of the gap after its last message, and how many messages it would get."""

    device: Device
    next_send_at: datetime | None
    messages: int


async def lane_loads(
    session: AsyncSession,
    user_id: UUID,
    candidates: Sequence[Candidate],
    *,
    campaign_id: int,
    starts_at: datetime,
    now: datetime,
) -> dict[UUID, LaneLoad]:
    """The load of each of a user's devices besides the campaign.

    The backlog is that of other campaigns and sequences under way, and of one-off messages, as far as it is due at `starts_at`.
    """
    if not candidates:
        return {}
    devices = [candidate.device.id for candidate in candidates]
    backlog: defaultdict[UUID, list[Queue]] = defaultdict(list)
    values = {"user": user_id, "devices": devices, "campaign": campaign_id, "until": max(starts_at, now)}
    for row in await session.execute(_BACKLOG, values):
        backlog[row.device_id].append(Queue(row.messages, row.low, row.high))
    loads = {
        candidate.device.id: LaneLoad(
            _caps(candidate.device),
            max(candidate.next_send_at or now, now),
            (),
            tuple(backlog.get(candidate.device.id, ())),
            _warm_up(candidate.device),
        )
        for candidate in candidates
    }
    held_back = await _held_back(session, user_id, candidates, loads, now)
    attempts = await _attempts(session, user_id, held_back, now) if held_back else {}
    return {device_id: replace(load, attempts=tuple(attempts.get(device_id, ()))) for device_id, load in loads.items()}


async def _held_back(
    session: AsyncSession, user_id: UUID, candidates: Sequence[Candidate], loads: Mapping[UUID, LaneLoad], now: datetime
) -> list[UUID]:
    """The devices for which it matters what they have sent: with what they would get, that is more than a cap allows."""
    values = {"user": user_id, "devices": list(loads), "day_ago": now - DAY}
    attempted = {row.device_id: row.attempts for row in await session.execute(_ATTEMPTED, values)}
    found = []
    for candidate in candidates:
        device, load = candidate.device, loads[candidate.device.id]
        plan = device.warm_up_started_at, device.warm_up_first_day, device.warm_up_daily_step
        least = min(load.caps.per_hour, daily_cap(load.caps.per_day, *plan, now))
        to_send = candidate.messages + sum(queue.messages for queue in load.backlog)
        if attempted.get(device.id, 0) + to_send > least:
            found.append(device.id)
    return found


def _caps(device: Device) -> Caps:
    return Caps(device.max_per_minute, device.max_per_hour, device.max_per_day)


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
