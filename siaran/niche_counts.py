"""How many leads carry each niche, remembered for a moment for users with so many leads that counting takes long."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from siaran.db import SessionMaker
from siaran.leads import NicheCount, count_niches

log = structlog.get_logger()

MANY = 50_000
"""From so many tags on, each counted once for every lead that carries it, the counts are remembered."""

KEPT_SECONDS = 30
REDIS_SECONDS = 0.2

_COUNTS = TypeAdapter(list[NicheCount])


async def read_niche_counts(sessions: SessionMaker, redis: "Redis", user_id: UUID) -> Sequence[NicheCount]:
    """Every tag of a user's leads in alphabetical order; with `MANY`, as they were at most half a minute ago."""
    key = f"niches:{user_id}"
    remembered = await _recall(redis, key)
    if remembered is not None:
        return remembered
    async with sessions.begin() as session:
        counts = await count_niches(session, user_id)
    if sum(count.leads for count in counts) >= MANY:
        await _remember(redis, key, counts)
    return counts


async def _recall(redis: "Redis", key: str) -> list[NicheCount] | None:
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            content = await redis.get(key)
        return None if content is None else _COUNTS.validate_json(content)
    except (RedisError, OSError, TimeoutError, ValidationError) as error:
        log.debug("niches_not_recalled", error=type(error).__name__)
        return None


async def _remember(redis: "Redis", key: str, counts: list[NicheCount]) -> None:
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            await redis.set(key, _COUNTS.dump_json(counts), ex=KEPT_SECONDS)
    except (RedisError, OSError, TimeoutError) as error:
        log.debug("niches_not_remembered", error=type(error).__name__)
