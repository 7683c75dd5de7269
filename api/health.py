"""Whether the parts that the API stands on answer, and how fast."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from time import perf_counter

from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.service import RPCError

from api.context import Context

PATIENCE = timedelta(seconds=2)
"""A part that takes longer counts as away."""


class State(StrEnum):
    """Whether a part answers."""

    UP = "up"
    DOWN = "down"


class Overall(StrEnum):
    """What that means together: without PostgreSQL nothing works, without the others some things wait."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Check(BaseModel):
    """What asking one part gave."""

    state: State
    latency_ms: float = Field(description="Until it answered or was given up, in milliseconds.")


class Checks(BaseModel):
    """The parts that the API stands on."""

    postgresql: Check
    redis: Check
    temporal: Check

    @property
    def overall(self) -> Overall:
        """The state of them together."""
        if self.postgresql.state is State.DOWN:
            return Overall.UNHEALTHY
        everything = self.redis.state is self.temporal.state is State.UP
        return Overall.HEALTHY if everything else Overall.DEGRADED


async def check_parts(context: Context) -> Checks:
    """Ask all parts at once."""
    postgresql, redis, temporal = await asyncio.gather(
        _check(lambda: _ask_postgresql(context)), check_redis(context), _check(lambda: _ask_temporal(context))
    )
    return Checks(postgresql=postgresql, redis=redis, temporal=temporal)


async def check_redis(context: Context) -> Check:
    """Ask Redis alone."""
    return await _check(lambda: _ask_redis(context))


async def _check(ask: Callable[[], Awaitable[None]]) -> Check:
    started = perf_counter()
    state = State.UP
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await ask()
    except (SQLAlchemyError, RedisError, RPCError, RuntimeError, OSError, TimeoutError):
        state = State.DOWN
    return Check(state=state, latency_ms=round((perf_counter() - started) * 1000, 2))


async def _ask_postgresql(context: Context) -> None:
    async with context.sessions() as session:
        await session.execute(text("SELECT 1"))


async def _ask_redis(context: Context) -> None:
    await context.redis.set("siaran:health", "1", ex=60)


async def _ask_temporal(context: Context) -> None:
    await context.temporal.service_client.check_health(timeout=PATIENCE)
