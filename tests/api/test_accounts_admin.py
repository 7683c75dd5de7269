"""Administrators: the first one, what they do with users, and the audit log."""

import asyncio
from datetime import timedelta

import pytest
from httpx import AsyncClient
from pydantic import SecretStr
from sqlalchemy import select

from siaran.accounts import ensure_administrator, find_default_administrator
from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.models import Role, User
from siaran.settings import Settings
from tests.api.conftest import ADMIN_EMAIL, PASSWORD, MovableClock, another_client, log_in, register


async def administrators(sessions: SessionMaker) -> list[str]:
    async with sessions() as session:
        return list(await session.scalars(select(User.email).where(User.role == Role.ADMIN).order_by(User.email)))


def with_basic_auth(settings: Settings, value: str) -> Settings:
    return settings.model_copy(update={"basic_auth": SecretStr(value)})


async def user_id(client: AsyncClient) -> str:
    return str((await client.get("/api/me")).json()["results"]["id"])


async def test_processes_that_start_together_create_one_administrator(settings: Settings, sessions: SessionMaker):
    await asyncio.gather(*(ensure_administrator(sessions, settings, system_clock()) for _ in range(3)))
    assert await administrators(sessions) == [ADMIN_EMAIL]


async def test_basic_auth_names_the_first_administrator(settings: Settings, sessions: SessionMaker):
    await ensure_administrator(sessions, with_basic_auth(settings, "boss:a:long:secret"), system_clock())
    assert await administrators(sessions) == ["boss@whatsapp.com"]
    async with sessions() as session:
        assert await find_default_administrator(session) is None


async def test_basic_auth_set_later_replaces_the_published_password(settings: Settings, sessions: SessionMaker):
    await ensure_administrator(sessions, settings, system_clock())
    async with sessions() as session:
        assert await find_default_administrator(session) is not None
    await ensure_administrator(sessions, with_basic_auth(settings, "boss@example.com:a long secret"), system_clock())
    assert await administrators(sessions) == ["boss@example.com"]
    async with sessions() as session:
        assert await find_default_administrator(session) is None


async def test_basic_auth_changes_nothing_once_a_password_was_chosen(settings: Settings, sessions: SessionMaker):
    await ensure_administrator(sessions, with_basic_auth(settings, "boss:the first secret"), system_clock())
    await ensure_administrator(sessions, with_basic_auth(settings, "other:the second secret"), system_clock())
    assert await administrators(sessions) == ["boss@whatsapp.com"]


@pytest.mark.parametrize("value", ["boss", ":secret-secret", "boss:short", "bo ss:long enough secret"])
async def test_unusable_basic_auth_is_refused_with_its_name(settings: Settings, sessions: SessionMaker, value: str):
    with pytest.raises(ValueError, match="APP_BASIC_AUTH"):
        await ensure_administrator(sessions, with_basic_auth(settings, value), system_clock())
    assert await administrators(sessions) == []


async def test_a_user_does_not_see_what_is_for_administrators(api: AsyncClient):
    aisyah = await register(api)
    own = await user_id(aisyah)
    answers = [
        await aisyah.get("/api/admin/users"),
        await aisyah.get(f"/api/admin/users/{own}"),
        await aisyah.patch(f"/api/admin/users/{own}", json={"role": "admin"}),
        await aisyah.post(f"/api/admin/users/{own}/password-reset"),
        await aisyah.get("/api/admin/audit-log"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 5
    assert (await aisyah.get("/api/me")).json()["results"]["role"] == "user"


async def test_users_are_listed_in_pages_and_searched(api: AsyncClient):
    admin = await log_in(api)
    for name in ("aisyah", "mei", "kumar"):
        await register(api, email=f"{name}@example.com", full_name=name.title())
    emails: list[str] = []
    cursor = None
    for _ in range(2):
        answer = await admin.get("/api/admin/users", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        emails += [user["email"] for user in answer.json()["results"]]
        cursor = answer.json()["next_cursor"]
    assert emails == ["kumar@example.com", "mei@example.com", "aisyah@example.com", ADMIN_EMAIL]
    assert cursor is None
    found = (await admin.get("/api/admin/users", params={"search": "MEI"})).json()["results"]
    assert [user["fullName"] for user in found] == ["Mei"]
    assert (await admin.get("/api/admin/users", params={"search": "%"})).json()["results"] == []


async def test_a_deactivated_user_is_out_at_once_and_can_be_let_in_again(api: AsyncClient):
    admin, aisyah = await log_in(api), await register(api)
    key = (await aisyah.post("/api/api-keys", json={"name": "script"})).json()["results"]["key"]
    path = f"/api/admin/users/{await user_id(aisyah)}"
    script = another_client(api, x_auth_token=key)
    assert (await admin.patch(path, json={"is_active": False})).json()["results"]["is_active"] is False
    assert [(await client.get("/api/me")).status_code for client in (aisyah, script)] == [401, 401]
    login = {"email": "aisyah@example.com", "password": PASSWORD}
    assert (await api.post("/login", json=login)).status_code == 403
    assert (await api.post("/login", json=login | {"password": "a wrong one"})).status_code == 401
    await admin.patch(path, json={"is_active": True})
    await log_in(api, email="aisyah@example.com", password=PASSWORD)
    assert (await script.get("/api/me")).status_code == 200


async def test_the_last_administrator_stays_one(api: AsyncClient):
    admin, aisyah = await log_in(api), await register(api)
    own = f"/api/admin/users/{await user_id(admin)}"
    for change in ({"role": "user"}, {"is_active": False}):
        assert (await admin.patch(own, json=change)).status_code == 409
    await admin.patch(f"/api/admin/users/{await user_id(aisyah)}", json={"role": "admin"})
    assert (await admin.patch(own, json={"role": "user"})).status_code == 200
    assert (await admin.get("/api/admin/users")).status_code == 403
    assert (await aisyah.get("/api/admin/users")).status_code == 200


async def test_two_administrators_cannot_demote_each_other_at_once(api: AsyncClient, sessions: SessionMaker):
    admin, aisyah = await log_in(api), await register(api)
    await admin.patch(f"/api/admin/users/{await user_id(aisyah)}", json={"role": "admin"})
    paths = [f"/api/admin/users/{await user_id(client)}" for client in (aisyah, admin)]
    await asyncio.gather(
        *(client.patch(path, json={"role": "user"}) for client, path in zip((admin, aisyah), paths, strict=True))
    )
    assert len(await administrators(sessions)) == 1


async def test_what_administrators_do_is_in_the_audit_log(api: AsyncClient):
    admin, aisyah = await log_in(api), await register(api)
    target = await user_id(aisyah)
    await admin.patch(f"/api/admin/users/{target}", json={"role": "admin"})
    await admin.patch(f"/api/admin/users/{target}", json={"role": "admin"})  # changes nothing, so it is no entry
    token = (await admin.post(f"/api/admin/users/{target}/password-reset")).json()["results"]["token"]
    answer = await admin.get("/api/admin/audit-log", params={"owner_id": target})
    lines = answer.json()["results"]
    assert [line["action"] for line in lines] == ["user.password_reset_created", "user.changed"]
    assert {line["actor_email"] for line in lines} == {ADMIN_EMAIL}
    assert {line["owner_email"] for line in lines} == {"aisyah@example.com"}
    assert lines[1]["details"] == {"role": {"from": "user", "to": "admin"}}
    assert token not in answer.text
    second = await admin.get("/api/admin/audit-log", params={"owner_id": target, "limit": 1})
    rest = await admin.get("/api/admin/audit-log", params={"owner_id": target, "cursor": second.json()["next_cursor"]})
    assert [line["action"] for line in rest.json()["results"]] == ["user.changed"]


async def test_a_reset_link_works_once_and_ends_all_sessions(api: AsyncClient):
    admin, aisyah = await log_in(api), await register(api)
    created = await admin.post(f"/api/admin/users/{await user_id(aisyah)}/password-reset")
    link = created.json()["results"]
    assert created.status_code == 201
    assert link["link"] == f"http://siaran.test/password-reset#token={link['token']}"
    body = {"token": link["token"], "new_password": "a fresh password"}
    assert (await api.post("/api/password-reset", json=body | {"new_password": "short"})).status_code == 422
    assert (await api.post("/api/password-reset", json=body)).json()["results"] == {"ended_sessions": 1}
    assert (await aisyah.get("/api/me")).status_code == 401
    await log_in(api, email="aisyah@example.com", password="a fresh password")
    again = await api.post("/api/password-reset", json=body | {"new_password": "yet another one"})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "token")


async def test_a_reset_link_ends_after_a_day_with_a_newer_one_and_with_the_account(api: AsyncClient, clock: MovableClock):
    target = await user_id(await register(api))

    async def new_token() -> str:
        answer = await (await log_in(api)).post(f"/api/admin/users/{target}/password-reset")
        return str(answer.json()["results"]["token"])

    async def redeem(token: str) -> int:
        body = {"token": token, "new_password": "a fresh password"}
        return (await api.post("/api/password-reset", json=body)).status_code

    old, newer = await new_token(), await new_token()
    assert await redeem(old) == 422
    clock.advance(timedelta(hours=24, seconds=1))
    assert await redeem(newer) == 422
    token = await new_token()
    await (await log_in(api)).patch(f"/api/admin/users/{target}", json={"is_active": False})
    assert await redeem(token) == 422
    assert await redeem("nonsense") == 422
    await log_in(api, email=ADMIN_EMAIL)
