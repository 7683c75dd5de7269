"""The fixtures that every other test stands on."""

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from siaran.settings import Settings


@pytest.mark.parametrize("round_number", [1, 2])
async def test_each_test_gets_a_migrated_database_without_rows(session: AsyncSession, round_number: int) -> None:
    await session.execute(text("CREATE TABLE mine (id int)"))
    await session.commit()
    assert (await session.execute(text("SELECT count(*) FROM campaigns"))).scalar_one() == 0


@pytest.mark.parametrize("round_number", [1, 2])
async def test_each_test_gets_an_empty_valkey(redis: Redis, round_number: int) -> None:
    assert await redis.keys() == []
    await redis.set("left", "behind")


async def test_each_test_gets_a_temporal_namespace_with_the_search_attributes(
    temporal_client: Client, settings: Settings
) -> None:
    assert temporal_client.namespace == settings.temporal_namespace
    assert [execution async for execution in temporal_client.list_workflows("SiaranCampaign = 1")] == []
