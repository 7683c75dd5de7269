"""Passwords and open log-ins."""

from httpx import AsyncClient

from tests.api.conftest import PASSWORD, another_client, log_in, register

NEW_PASSWORD = "an even better one"


async def own_sessions(client: AsyncClient) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = (await client.get("/api/me/sessions")).json()["results"]
    return listed


async def test_open_sessions_are_listed_and_the_current_one_is_marked(api: AsyncClient):
    first = await register(api)
    await log_in(api, email="aisyah@example.com", password=PASSWORD)
    listed = await own_sessions(first)
    assert [session["is_current"] for session in listed].count(True) == 1
    assert len(listed) == 2
    assert all(str(session["user_agent"]).startswith("python-httpx") for session in listed)


async def test_a_session_can_be_ended_from_another(api: AsyncClient):
    first = await register(api)
    second = await log_in(api, email="aisyah@example.com", password=PASSWORD)
    other = next(session for session in await own_sessions(first) if not session["is_current"])
    assert (await first.delete(f"/api/me/sessions/{other['id']}")).status_code == 200
    assert (await second.get("/api/me")).status_code == 401
    assert (await first.get("/api/me")).status_code == 200


async def test_all_other_sessions_can_be_ended_at_once(api: AsyncClient):
    first = await register(api)
    others = [await log_in(api, email="aisyah@example.com", password=PASSWORD) for _ in range(2)]
    assert (await first.delete("/api/me/sessions")).json()["results"] == {"ended_sessions": 2}
    assert [(await client.get("/api/me")).status_code for client in (first, *others)] == [200, 401, 401]


async def test_someone_elses_session_is_as_if_it_did_not_exist(api: AsyncClient):
    aisyah = await register(api)
    mei = await register(api, email="mei@example.com")
    hers = (await own_sessions(aisyah))[0]["id"]
    assert (await mei.delete(f"/api/me/sessions/{hers}")).status_code == 404
    assert (await mei.delete("/api/me/sessions")).json()["results"] == {"ended_sessions": 0}
    assert (await aisyah.get("/api/me")).status_code == 200


async def test_changing_the_password_ends_the_other_sessions(api: AsyncClient):
    first = await register(api)
    second = await log_in(api, email="aisyah@example.com", password=PASSWORD)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await first.post("/api/me/password", json=body)).json()["results"] == {"ended_sessions": 1}
    assert [(await client.get("/api/me")).status_code for client in (first, second)] == [200, 401]
    old = await api.post("/login", json={"email": "aisyah@example.com", "password": PASSWORD})
    assert old.status_code == 401
    await log_in(api, email="aisyah@example.com", password=NEW_PASSWORD)


async def test_the_password_stays_when_the_present_one_is_wrong_or_the_new_one_too_short(api: AsyncClient):
    client = await register(api)
    wrong = await client.post("/api/me/password", json={"current_password": "a guess", "new_password": NEW_PASSWORD})
    short = await client.post("/api/me/password", json={"current_password": PASSWORD, "new_password": "short"})
    fields = [error["field"] for answer in (wrong, short) for error in answer.json()["errors"]]
    assert (wrong.status_code, short.status_code, fields) == (422, 422, ["current_password", "new_password"])
    await log_in(api, email="aisyah@example.com", password=PASSWORD)


async def test_guessing_the_present_password_is_throttled(api: AsyncClient):
    client = await register(api)
    body = {"current_password": "a guess", "new_password": NEW_PASSWORD}
    statuses = [(await client.post("/api/me/password", json=body)).status_code for _ in range(11)]
    assert statuses == [422] * 10 + [429]


async def test_without_a_login_there_is_nothing_to_see(api: AsyncClient):
    assert (await another_client(api).get("/api/me/sessions")).status_code == 401
