"""Servers that are killed, or emptied, while a campaign runs."""

import os
import signal

import pytest
from redis.asyncio import Redis

from siaran.embedded.stack import EmbeddedStack
from tests.faults.stage import Stage

pytestmark = pytest.mark.faults

DEVICES = 6
SERVERS = ("api", "valkey", "fleet", "temporal", "postgres", "worker")


async def test_killing_every_server_in_turn_and_emptying_redis_loses_and_repeats_nothing(
    stage: Stage, product: EmbeddedStack
) -> None:
    user = await stage.marketer(DEVICES)
    campaign = await user.send(leads=DEVICES * 16, gap=(0, 1))
    await stage.transmitted(DEVICES)
    async with Redis.from_url(stage.ways.settings.redis_dsn) as redis:
        await redis.flushall()
    for name in SERVERS:
        await stage.transmitted(DEVICES)
        pid = product.supervisor.pid(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    await stage.until(lambda: is_api_healthy(stage))
    await user.hurry(campaign)
    assert await stage.pending(campaign) > 0
    assert await stage.ended(campaign) == ["sent"]
    assert all(state.restarts for state in product.supervisor.states() if state.name in SERVERS)
    await stage.check()


async def is_api_healthy(stage: Stage) -> bool:
    return (await stage.ways.http.get("/health")).is_success
