"""Waking lanes without ever losing a wake: the lane's row decides who signals."""

import asyncio
from collections.abc import Iterable
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from temporalio.client import Client

from siaran.contracts import LaneInput
from siaran.db import SessionMaker
from siaran.temporal import signal_lanes

log = structlog.get_logger()

NOTICES = "siaran:lanes"
"""Redis channel of device ids whose lanes have just been set running; hosts open their queues on it."""

NOTICE_SECONDS = 2.0
"""How long a waker waits for Redis before it leaves the hosts to find the lane by themselves."""

_SET_RUNNING = text("""
    WITH before AS (
        SELECT device_id, user_id, state, state = 'waiting' AND paused_at IS NOT NULL AS is_stopped FROM lanes
        WHERE device_id = ANY(CAST(:devices AS uuid[]))
        ORDER BY device_id FOR UPDATE
    )
    UPDATE lanes SET state = 'running', wakes = wakes + 1, waiting_for = NULL, waiting_until_at = NULL, updated_at = now()
    FROM before
    WHERE lanes.device_id = before.device_id AND before.state <> 'running' AND NOT before.is_stopped
    RETURNING lanes.device_id, lanes.user_id
""")


async def wake_lanes(sessions: SessionMaker, client: Client, redis: Redis, device_ids: Iterable[UUID]) -> int:
    """Bring back the lanes of devices that have just got due rows; call it after the rows are committed.

    A running lane finds new rows by itself and is left alone; so is one that waits because its user has stopped it. A lane that
    is about to end holds its row's lock while it looks for pending rows: either it sees ours, or we see it asleep and signal.
    Returns how many lanes were signalled.
    """
    devices = sorted(set(device_ids))
    if not devices:
        return 0
    async with sessions.begin() as session:
        rows = (await session.execute(_SET_RUNNING, {"devices": devices})).all()
    await announce_lanes(redis, (row.device_id for row in rows))
    await signal_lanes(client, [LaneInput(row.device_id, row.user_id) for row in rows])
    return len(rows)


async def announce_lanes(redis: Redis, device_ids: Iterable[UUID]) -> None:
    """Tell the hosts which lanes run now; a lost notice costs a host's next reconcile, nothing else."""
    try:
        async with asyncio.timeout(NOTICE_SECONDS), redis.pipeline(transaction=False) as pipeline:
            for device_id in device_ids:
                pipeline.publish(NOTICES, str(device_id))
            await pipeline.execute()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("lane_notice_failed", error=type(error).__name__)
