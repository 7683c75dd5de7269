"""API keys: what they may do and when they end."""

import pytest
from fastapi import APIRouter, Depends, FastAPI
from httpx import AsyncClient
from sqlalchemy import select

from api.auth import AdminDep, SenderDep, UserDep
from api.csrf import refuse_cross_site
from siaran.db import SessionMaker
from siaran.models import ApiKey
from tests.api.conftest import another_client, log_in, register


async def create_key(client: AsyncClient, *scopes: str) -> dict[str, str]:
    answer = await client.post("/api/api-keys", json={"name": "script", "scopes": scopes})
    assert answer.status_code == 201, answer.text
    key: dict[str, str] = answer.json()["results"]
    return key


def add_probes(app: FastAPI) -> None:
    """Routes as other parts declare theirs, one of each kind."""
    router = APIRouter(prefix="/probe")

    @router.get("/thing")
    async def read(user: UserDep) -> str:
        return user.email

    @router.put("/thing")
    async def change(user: UserDep) -> str:
        return user.email

    @router.get("/reconnect", dependencies=[Depends(refuse_cross_site)])
    async def change_by_link(user: UserDep) -> str:
        return user.email

    @router.post("/message")
    async def send(user: SenderDep) -> str:
        return user.email

    @router.get("/users")
    async def administrate(user: AdminDep) -> str:
        return user.email

    app.include_router(router)


PROBES = [
    ("GET", "/probe/thing"),
    ("PUT", "/probe/thing"),
    ("GET", "/probe/reconnect"),
    ("POST", "/probe/message"),
    ("GET", "/probe/users"),
]


async def statuses(client: AsyncClient) -> list[int]:
    return [(await client.request(method, path)).status_code for method, path in PROBES]


async def test_a_key_is_shown_once_and_stored_as_a_hash(api: AsyncClient, sessions: SessionMaker):
    client = await register(api)
    created = await create_key(client, "read")
    assert created["key"].startswith(created["prefix"])
    listed = (await client.get("/api/api-keys")).json()["results"]
    assert [set(key) for key in listed] == [{"id", "name", "prefix", "scopes", "created_at", "last_used_at"}]
    async with sessions() as session:
        row = (await session.scalars(select(ApiKey))).one()
    assert created["key"].encode() not in row.key_hash


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("read",), [200, 403, 403, 403, 403]),
        (("read", "write"), [200, 200, 200, 403, 403]),
        (("send",), [403, 403, 403, 200, 403]),
        (("read", "write", "send"), [200, 200, 200, 200, 403]),
        (("read", "admin"), [200, 403, 403, 403, 200]),
        (("admin",), [403, 403, 403, 403, 403]),
    ],
)
async def test_a_key_may_do_what_its_scopes_say(app: FastAPI, api: AsyncClient, scopes: tuple[str, ...], expected: list[int]):
    add_probes(app)
    key = await create_key(await log_in(api), *scopes)
    assert await statuses(another_client(api, authorization=f"Bearer {key['key']}")) == expected


async def test_a_login_may_do_all_that_its_user_may(app: FastAPI, api: AsyncClient):
    add_probes(app)
    assert await statuses(await log_in(api)) == [200] * 5
    assert await statuses(await register(api)) == [200, 200, 200, 200, 403]


async def test_a_key_cannot_make_keys_or_change_the_password(api: AsyncClient):
    key = await create_key(await register(api), "read", "write", "send")
    script = another_client(api, x_auth_token=key["key"])
    answers = [
        await script.post("/api/api-keys", json={"name": "another"}),
        await script.get("/api/me/sessions"),
        await script.post("/api/me/password", json={"current_password": "x", "new_password": "long enough"}),
    ]
    assert [answer.status_code for answer in answers] == [403] * 3


async def test_only_administrators_make_keys_for_administration(api: AsyncClient):
    client = await register(api)
    answer = await client.post("/api/api-keys", json={"name": "mine", "scopes": ["read", "admin"]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "scopes")


@pytest.mark.parametrize("body", [{"name": ""}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["everything"]}, {}])
async def test_a_bad_key_is_refused(api: AsyncClient, body: dict[str, object]):
    client = await register(api)
    assert (await client.post("/api/api-keys", json=body)).status_code == 422
    assert (await client.get("/api/api-keys")).json()["results"] == []


async def test_a_revoked_key_stops_at_once(api: AsyncClient):
    client = await register(api)
    key = await create_key(client, "read")
    script = another_client(api, authorization=f"Bearer {key['key']}")
    assert (await script.get("/api/me")).status_code == 200
    assert (await client.get("/api/api-keys")).json()["results"][0]["last_used_at"] is not None
    assert (await client.delete(f"/api/api-keys/{key['id']}")).status_code == 200
    assert (await script.get("/api/me")).status_code == 401
    assert (await client.delete(f"/api/api-keys/{key['id']}")).status_code == 404


async def test_someone_elses_key_is_as_if_it_did_not_exist(api: AsyncClient):
    aisyah = await register(api)
    mei = await register(api, email="mei@example.com")
    key = await create_key(aisyah, "read")
    assert (await mei.get("/api/api-keys")).json()["results"] == []
    assert (await mei.delete(f"/api/api-keys/{key['id']}")).status_code == 404
    assert (await another_client(api, x_auth_token=key["key"]).get("/api/me")).status_code == 200
