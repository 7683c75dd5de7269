"""Registering, logging in and out, and the account itself."""

import asyncio
import json
import unicodedata
from datetime import timedelta
from http.cookies import SimpleCookie

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from pydantic import SecretStr
from sqlalchemy import func, select

from api.app import create_app
from siaran.db import SessionMaker
from siaran.models import User, UserSession
from siaran.settings import Settings
from tests.api.conftest import BASE_URL, PASSWORD, MovableClock, another_client, log_in, register

CLOSED_PORT = 9


def session_cookie(answer: Response):
    """The attributes of the session cookie that an answer sets."""
    return SimpleCookie(answer.headers["set-cookie"])["session_token"]


async def post_login(client: AsyncClient, email: str, password: str) -> Response:
    return await client.post("/login", json={"email": email, "password": password})


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_registering_and_logging_in_answer_as_the_original_did(api: AsyncClient, prefix: str):
    registered = await api.post(
        f"{prefix}/register", json={"fullname": " Aisyah ", "email": "Aisyah@Example.com", "password": PASSWORD}
    )
    logged_in = await api.post(f"{prefix}/login", json={"email": "AISYAH@example.com ", "password": PASSWORD})
    assert (registered.status_code, logged_in.status_code) == (201, 200)
    for answer in (registered.json(), logged_in.json()):
        assert set(answer) == {"status", "message", "token", "user"}
        assert answer["status"] == "success"
        assert set(answer["user"]) == {"id", "email", "fullName"}
        assert (answer["user"]["email"], answer["user"]["fullName"]) == ("aisyah@example.com", "Aisyah")
    assert registered.json()["user"] == logged_in.json()["user"]


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(app: FastAPI, api: AsyncClient):
    plain = session_cookie(await post_login(api, "admin@whatsapp.com", "changeme123"))
    async with AsyncClient(transport=ASGITransport(app), base_url="https://siaran.test") as over_tls:
        tls = session_cookie(await post_login(over_tls, "admin@whatsapp.com", "changeme123"))
    for cookie in (plain, tls):
        assert cookie["httponly"]
        assert cookie["samesite"] == "lax"
        assert cookie["max-age"] == str(24 * 3600)
    assert (plain["secure"], tls["secure"]) == ("", True)


async def test_a_session_token_also_works_in_a_header(api: AsyncClient):
    token = (await post_login(api, "admin@whatsapp.com", "changeme123")).json()["token"]
    for headers in ({"authorization": f"Bearer {token}"}, {"x_auth_token": token}):
        assert (await another_client(api, **headers).get("/api/me")).status_code == 200


async def test_a_wrong_token_in_a_header_is_not_made_up_for_by_the_cookie(api: AsyncClient):
    client = await register(api)
    assert (await client.get("/api/me", headers={"Authorization": "Bearer nonsense"})).status_code == 401


async def test_only_hashes_of_tokens_and_passwords_are_stored(api: AsyncClient, sessions: SessionMaker):
    client = await register(api)
    async with sessions() as session:
        user = (await session.scalars(select(User).where(User.email == "aisyah@example.com"))).one()
        login = (await session.scalars(select(UserSession).where(UserSession.user_id == user.id))).one()
    assert user.password_hash.startswith("$argon2id$")
    assert client.cookies["session_token"].encode() not in login.token_hash


async def test_an_email_is_the_same_however_it_is_composed(api: AsyncClient):
    await register(api, email=unicodedata.normalize("NFD", "aimée@exämple.com"))
    await log_in(api, email=unicodedata.normalize("NFC", "AIMÉE@exämple.com"), password=PASSWORD)


async def test_a_taken_email_is_refused_whatever_its_case(api: AsyncClient):
    await register(api, email="aisyah@example.com")
    answer = await api.post("/register", json={"fullname": "X", "email": "AISYAH@EXAMPLE.COM", "password": PASSWORD})
    assert (answer.status_code, answer.json()["detail"]) == (409, "this email is already registered")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "not an address"}, "email"),
        ({"email": "a@b"}, "email"),
        ({"password": "short12"}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"password": "changeme123"}, "password"),
        ({"password": "\ud800" * 8}, "password"),
        ({"fullname": "  "}, "fullname"),
        ({"fullname": "x" * 201}, "fullname"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_registered(
    api: AsyncClient, sessions: SessionMaker, change: dict[str, str], field: str
):
    body = json.dumps({"fullname": "Aisyah", "email": "aisyah@example.com", "password": PASSWORD} | change)
    answer = await api.post("/register", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 1  # the first administrator


async def test_an_unknown_email_and_a_wrong_password_get_the_same_answer(api: AsyncClient):
    await register(api)
    unknown = await post_login(api, "nobody@example.com", PASSWORD)
    wrong = await post_login(api, "aisyah@example.com", "not " + PASSWORD)
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.json() == wrong.json()
    assert "session_token" not in api.cookies


async def test_logging_out_ends_the_session_on_the_server(api: AsyncClient):
    client = await register(api)
    token = client.cookies["session_token"]
    answer = await client.post("/logout")
    assert (answer.status_code, answer.json()["status"]) == (200, "success")
    assert "session_token" not in client.cookies
    assert (await another_client(api, x_auth_token=token).get("/api/me")).status_code == 401


async def test_a_link_logs_out_too_and_leads_a_browser_to_the_login_page(api: AsyncClient):
    client = await register(api)
    token = client.cookies["session_token"]
    answer = await client.get("/logout", headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert (await another_client(api, x_auth_token=token).get("/api/me")).status_code == 401
    assert (await client.get("/logout")).json()["status"] == "success"


async def test_a_session_ends_24_hours_after_its_last_use(api: AsyncClient, clock: MovableClock):
    client = await register(api)
    token = client.cookies["session_token"]
    for _ in range(3):
        clock.advance(timedelta(hours=23))
        assert (await another_client(api, x_auth_token=token).get("/api/me")).status_code == 200
    clock.advance(timedelta(hours=24, seconds=1))
    assert (await another_client(api, x_auth_token=token).get("/api/me")).status_code == 401


async def test_the_cookie_is_prolonged_at_most_once_a_minute(api: AsyncClient, clock: MovableClock):
    client = await register(api)
    assert "set-cookie" not in (await client.get("/api/me")).headers
    clock.advance(timedelta(seconds=61))
    assert session_cookie(await client.get("/api/me"))["max-age"] == str(24 * 3600)
    assert "set-cookie" not in (await client.get("/api/me")).headers


async def test_logging_out_is_not_undone_by_prolonging_the_cookie(api: AsyncClient, clock: MovableClock):
    client = await register(api)
    clock.advance(timedelta(minutes=2))
    answer = await client.post("/logout")
    assert answer.headers.get_list("set-cookie") == [answer.headers["set-cookie"]]
    assert session_cookie(answer)["max-age"] == "0"


async def test_ended_sessions_are_cleared_away_at_the_next_login(api: AsyncClient, clock: MovableClock, sessions: SessionMaker):
    await register(api)
    clock.advance(timedelta(hours=25))
    await log_in(api, email="aisyah@example.com", password=PASSWORD)
    async with sessions() as session:
        query = select(func.count()).select_from(UserSession).join(User, User.id == UserSession.user_id)
        assert await session.scalar(query.where(User.email == "aisyah@example.com")) == 1


async def test_changing_the_account_leaves_what_is_not_named(api: AsyncClient):
    client = await register(api)
    changed = await client.patch("/api/me", json={"timezone": "America/New_York"})
    assert changed.status_code == 200
    changed = await client.patch("/api/me", json={"fullname": "Aisyah binti Ali", "country": "id"})
    account = changed.json()["results"]
    assert (account["fullName"], account["timezone"], account["country"]) == ("Aisyah binti Ali", "America/New_York", "ID")
    assert (await client.get("/api/me")).json()["results"] == account


@pytest.mark.parametrize(
    ("change", "field"),
    [({"timezone": "Mars/Olympus"}, "timezone"), ({"country": "ZZ"}, "country"), ({"fullname": ""}, "fullname")],
)
async def test_a_bad_change_is_refused_whole(api: AsyncClient, change: dict[str, str], field: str):
    client = await register(api)
    before = (await client.get("/api/me")).json()["results"]
    body = {"fullname": "Someone Else", "timezone": "Asia/Tokyo", "country": "JP"} | change
    answer = await client.patch("/api/me", json=body)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])
    assert (await client.get("/api/me")).json()["results"] == before


async def test_ten_wrong_passwords_make_this_address_wait_but_no_other(app: FastAPI, api: AsyncClient):
    await register(api)
    for _ in range(10):
        assert (await post_login(api, "aisyah@example.com", "a wrong one")).status_code == 401
    refused = await post_login(api, "aisyah@example.com", PASSWORD)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 900
    transport = ASGITransport(app, client=("203.0.113.9", 1))
    async with AsyncClient(transport=transport, base_url=BASE_URL) as elsewhere:
        assert (await post_login(elsewhere, "aisyah@example.com", PASSWORD)).status_code == 200


async def test_a_burst_of_wrong_passwords_cannot_slip_past_the_limit(api: AsyncClient):
    answers = await asyncio.gather(*(post_login(api, "admin@whatsapp.com", f"wrong guess {n}") for n in range(30)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(401), statuses.count(429)) == (10, 20)


async def test_a_right_password_forgets_the_wrong_ones(api: AsyncClient):
    await register(api)
    for _ in range(2):
        for _ in range(9):
            await post_login(api, "aisyah@example.com", "a wrong one")
        assert (await post_login(api, "aisyah@example.com", PASSWORD)).status_code == 200


async def test_people_can_log_in_while_redis_is_away(settings: Settings):
    away = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{CLOSED_PORT}/0")})
    app = create_app(away)
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as api:
        assert (await post_login(api, "admin@whatsapp.com", "changeme123")).status_code == 200
        assert (await post_login(api, "admin@whatsapp.com", "something else")).status_code == 401
