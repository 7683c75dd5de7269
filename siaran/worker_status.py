"""What the lanes of a user are doing, and stopping and resuming them; every query names the owner.

Callers of the original know lanes as workers, hence the name.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import FromClause, Select, Subquery, Text, and_, cast, func, literal, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import load_only

from siaran.models import (
    BroadcastMessage,
    Campaign,
    CampaignCount,
    Device,
    DeviceStatus,
    Lane,
    LaneState,
    Sequence,
    campaign_source,
)
from siaran.tenancy import get_owned, update_owned

STUCK_AFTER = timedelta(minutes=10)
"""A lane with due messages that has made no progress for this long is in error; the sweep restarts it."""


class WorkerStatus(StrEnum):
    """What a lane does, as the worker page shows it."""

    ACTIVE = "active"
    IDLE = "idle"
    WAITING = "waiting"
    STOPPED = "stopped"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Worker:
    """A lane with its device, and what it sends for; `queue_size` counts its pending messages."""

    device: Device
    lane: Lane
    status: WorkerStatus
    is_stuck: bool
    queue_size: int
    campaign: Campaign | None
    sequence: Sequence | None


@dataclass(frozen=True, slots=True)
class WorkerTotals:
    """Lanes by what they do, and the sums of their messages."""

    workers: int
    by_status: dict[WorkerStatus, int]
    queued: int
    processed: int
    failed: int


def total(workers: Collection[Worker]) -> WorkerTotals:
    """The totals over some lanes."""
    by_status = dict.fromkeys(WorkerStatus, 0)
    for worker in workers:
        by_status[worker.status] += 1
    return WorkerTotals(
        workers=len(workers),
        by_status=by_status,
        queued=sum(worker.queue_size for worker in workers),
        processed=sum(worker.lane.processed for worker in workers),
        failed=sum(worker.lane.failed for worker in workers),
    )


async def list_workers(session: AsyncSession, user_id: UUID, now: datetime, device_id: UUID | None = None) -> list[Worker]:
    """The lanes of a user's devices, or of one of them, oldest device first, in one query."""
    queue, others, claimed = _campaign_queues(user_id), _other_queue(), _claimed()
    size = func.coalesce(queue.c.size, 0) - claimed.c.size + others.c.size
    oldest_at = func.least(queue.c.oldest_at, others.c.oldest_at)
    query = (
        select(Device, Lane, size, oldest_at, Campaign, Sequence)
        .join(Lane, and_(Lane.device_id == Device.id, Lane.user_id == user_id))
        .outerjoin(queue, queue.c.device_id == Device.id)
        .join(others, true())
        .join(claimed, true())
        .outerjoin(Campaign, and_(Campaign.id == Lane.current_campaign_id, Campaign.user_id == user_id))
        .outerjoin(Sequence, and_(Sequence.id == Lane.current_sequence_id, Sequence.user_id == user_id))
        .where(Device.id.in_(_devices(user_id, device_id)))
        .order_by(Device.created_at, Device.id)
        .options(load_only(Campaign.title, Campaign.status), load_only(Sequence.name, Sequence.status))
    )
    workers = []
    for device, lane, queue_size, oldest_at, campaign, sequence in await session.execute(query):
        is_stuck = _is_stuck(lane, oldest_at, now)
        # An ended lane keeps what it sent for last; that is not what it sends for now.
        is_open = lane.state != LaneState.ASLEEP
        workers.append(
            Worker(
                device=device,
                lane=lane,
                status=_status(device, lane, queue_size, is_stuck=is_stuck),
                is_stuck=is_stuck,
                queue_size=queue_size,
                campaign=campaign if is_open else None,
                sequence=sequence if is_open else None,
            )
        )
    return workers


_CAMPAIGNS = campaign_source(0)[:-1]
"""What the sources of all campaigns begin with."""

# A predicate of a partial index has to be in the statement, not in a parameter.
_PENDING = BroadcastMessage.status == literal("pending", literal_execute=True)
_CLAIMED = BroadcastMessage.status == literal("claimed", literal_execute=True)


def _campaign_queues(user_id: UUID) -> Subquery:
    """Open messages of campaigns per device, from their counters: a campaign may have a million. Claimed ones are in it."""
    head = (
        select(BroadcastMessage.scheduled_at)
        .where(
            BroadcastMessage.device_id == CampaignCount.device_id,
            BroadcastMessage.source == literal(_CAMPAIGNS).concat(cast(CampaignCount.campaign_id, Text)),
            _PENDING,
        )
        .order_by(BroadcastMessage.scheduled_at)
        .limit(1)
        .lateral("head")
    )
    return (
        select(
            CampaignCount.device_id,
            func.sum(CampaignCount.pending).label("size"),
            func.min(head.c.scheduled_at).label("oldest_at"),
        )
        .outerjoin(head, true())
        .where(CampaignCount.user_id == user_id, CampaignCount.pending > 0)
        .group_by(CampaignCount.device_id)
        .subquery("queue")
    )


def _other_queue() -> FromClause:
    """Pending messages of a device that are of no campaign: one-offs and steps, few at a time."""
    pending = select(BroadcastMessage.scheduled_at).where(BroadcastMessage.device_id == Device.id, _PENDING)
    beyond = _CAMPAIGNS[:-1] + chr(ord(_CAMPAIGNS[-1]) + 1)
    # Two ranges of the index. With OR it would be read from end to end.
    rows = union_all(
        pending.where(BroadcastMessage.source < _CAMPAIGNS).correlate(Device),
        pending.where(BroadcastMessage.source >= beyond).correlate(Device),
    ).subquery("rows")
    return select(func.count().label("size"), func.min(rows.c.scheduled_at).label("oldest_at")).lateral("others")


def _claimed() -> FromClause:
    """Messages of campaigns that a device is sending right now."""
    return (
        select(func.count().label("size"))
        .where(BroadcastMessage.device_id == Device.id, _CLAIMED, BroadcastMessage.campaign_id.is_not(None))
        .lateral("claimed")
    )


async def get_worker(session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime) -> Worker:
    """The lane of one device; raises `NotFound` for anyone else's and for a deleted one."""
    await get_owned(session, Device, user_id, Device.id == device_id, Device.deleted_at.is_(None))
    return (await list_workers(session, user_id, now, device_id))[0]


async def devices_of_campaign(session: AsyncSession, user_id: UUID, campaign_id: int) -> set[UUID]:
    """The devices that have unsent messages of a campaign; raises `NotFound` for another user's campaign."""
    await get_owned(session, Campaign, user_id, Campaign.id == campaign_id, Campaign.deleted_at.is_(None))
    query = select(CampaignCount.device_id).where(
        CampaignCount.user_id == user_id, CampaignCount.campaign_id == campaign_id, CampaignCount.pending > 0
    )
    return set((await session.execute(query)).scalars())


async def devices_of_sequence(session: AsyncSession, user_id: UUID, sequence_id: UUID) -> set[UUID]:
    """The devices whose lanes send for a sequence at the moment; raises `NotFound` for another user's sequence."""
    await get_owned(session, Sequence, user_id, Sequence.id == sequence_id, Sequence.deleted_at.is_(None))
    query = select(Lane.device_id).where(
        Lane.user_id == user_id, Lane.current_sequence_id == sequence_id, Lane.state != LaneState.ASLEEP
    )
    return set((await session.execute(query)).scalars())


async def stop_lanes(session: AsyncSession, user_id: UUID, now: datetime, device_id: UUID | None = None) -> list[UUID]:
    """Stop the lanes of a user, or one of them, before their next message, until they are resumed; returns their devices."""
    query = update_owned(Lane, user_id).where(Lane.paused_at.is_(None), Lane.device_id.in_(_devices(user_id, device_id)))
    return list((await session.execute(query.values(paused_at=now).returning(Lane.device_id))).scalars())


async def resume_lanes(session: AsyncSession, user_id: UUID, device_ids: Iterable[UUID]) -> None:
    """Let stopped lanes claim again and forget their last error; the caller wakes them after the commit."""
    query = update_owned(Lane, user_id).where(Lane.device_id.in_(sorted(device_ids)))
    await session.execute(query.values(paused_at=None, last_error=None))


def _devices(user_id: UUID, device_id: UUID | None) -> Select[UUID]:
    query = select(Device.id).where(Device.user_id == user_id, Device.deleted_at.is_(None))
    return query if device_id is None else query.where(Device.id == device_id)


def _status(device: Device, lane: Lane, queue_size: int, *, is_stuck: bool) -> WorkerStatus:
    if lane.paused_at is not None:
        return WorkerStatus.STOPPED
    if is_stuck or (queue_size and device.status in {DeviceStatus.BANNED, DeviceStatus.LOGGED_OUT}):
        return WorkerStatus.ERROR
    match lane.state:
        case LaneState.RUNNING:
            return WorkerStatus.ACTIVE
        case LaneState.WAITING:
            return WorkerStatus.WAITING
        case _:
            return WorkerStatus.IDLE


def _is_stuck(lane: Lane, oldest_at: datetime | None, now: datetime) -> bool:
    """Whether a lane has due messages and should be at them, but is not."""
    limit = now - STUCK_AFTER
    if lane.paused_at is not None or oldest_at is None or oldest_at >= limit:
        return False
    if max(lane.last_activity_at or lane.updated_at, lane.updated_at) >= limit:
        return False
    overslept = lane.waiting_until_at is not None and lane.waiting_until_at < limit
    return lane.state == LaneState.RUNNING or (lane.state == LaneState.WAITING and overslept)
