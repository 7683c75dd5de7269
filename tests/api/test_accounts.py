"""Accounts."""

from httpx import AsyncClient

from tests.api.conftest import register


async def test_a_new_user_is_logged_in(api: AsyncClient):
    client = await register(api)
    answer = await client.get("/api/me")
    assert answer.json()["results"]["email"] == "aisyah@example.com"
