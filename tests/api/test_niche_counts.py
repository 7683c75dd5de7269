"""Counts of niches are exact, and of very many leads half a minute old at most; nobody sees somebody else's."""

import pytest
from redis.asyncio import Redis

import siaran.niche_counts
from tests.api.campaign_rows import add_leads, user_id_of
from tests.api.conftest import register


@pytest.fixture
async def client(api):
    return await register(api)


async def niches_of(client) -> dict[str, int]:
    return {row["niche"]: row["leads"] for row in (await client.get("/api/leads/niches")).json()["results"]}


async def test_few_leads_are_counted_every_time(client, sessions):
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 2, niche="EXSTART")
    assert await niches_of(client) == {"EXSTART": 2}
    await add_leads(sessions, user_id, 1, niche="EXSTART,ITADRESS")
    assert await niches_of(client) == {"EXSTART": 3, "ITADRESS": 1}


async def test_counts_of_many_leads_are_remembered_for_their_user_alone(api, client, sessions, redis: Redis, monkeypatch):
    monkeypatch.setattr(siaran.niche_counts, "MANY", 2)
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 2, niche="EXSTART")
    assert await niches_of(client) == {"EXSTART": 2}
    await add_leads(sessions, user_id, 1, niche="EXSTART")
    assert await niches_of(client) == {"EXSTART": 2}
    assert await niches_of(await register(api, email="badrul@example.com")) == {}
    assert 0 < await redis.ttl(f"niches:{user_id}") <= siaran.niche_counts.KEPT_SECONDS
    await redis.delete(f"niches:{user_id}")
    assert await niches_of(client) == {"EXSTART": 3}


async def test_what_is_remembered_and_cannot_be_read_is_counted(client, sessions, redis: Redis):
    user_id = await user_id_of(sessions)
    await add_leads(sessions, user_id, 1, niche="EXSTART")
    await redis.set(f"niches:{user_id}", "no counts")
    assert await niches_of(client) == {"EXSTART": 1}
