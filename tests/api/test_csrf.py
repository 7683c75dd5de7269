"""Requests that another site makes a browser send."""

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from starlette.datastructures import Headers

from api.app import create_app
from api.csrf import is_cross_site
from siaran.settings import Settings
from tests.api.conftest import BASE_URL, PASSWORD, another_client, register


@pytest.mark.parametrize(
    ("headers", "scheme", "cross"),
    [
        ({}, "http", False),  # a script
        ({"sec-fetch-site": "same-origin"}, "http", False),
        ({"sec-fetch-site": "none"}, "http", False),  # typed, or a bookmark
        ({"sec-fetch-site": "cross-site"}, "http", True),
        ({"sec-fetch-site": "same-site"}, "http", True),  # a sibling domain may be someone else's
        ({"sec-fetch-site": "same-origin", "origin": "https://behind.proxy", "host": "10.0.0.5:3000"}, "http", False),
        ({"origin": "http://siaran.test", "host": "siaran.test"}, "http", False),
        ({"origin": "http://siaran.test:3000", "host": "siaran.test:3000"}, "http", False),
        ({"origin": "http://siaran.test", "host": "siaran.test:80"}, "http", False),
        ({"origin": "https://siaran.test", "host": "siaran.test"}, "http", False),  # a proxy that ends TLS
        ({"origin": "https://siaran.test", "host": "siaran.test:443"}, "https", False),
        ({"origin": "http://siaran.test", "host": "siaran.test"}, "https", True),
        ({"origin": "http://siaran.test:3000", "host": "siaran.test:4000"}, "http", True),
        ({"origin": "http://siaran.test:3000", "host": "siaran.test"}, "http", True),
        ({"origin": "http://siaran.test.evil.example", "host": "siaran.test"}, "http", True),
        ({"origin": "http://evil.example", "host": "siaran.test"}, "http", True),
        ({"origin": "http://[::1]:3000", "host": "[::1]:3000"}, "http", False),
        ({"origin": "null", "host": "siaran.test"}, "http", True),
        ({"origin": "http://siaran.test"}, "http", True),
        ({"origin": "http://siaran.test:port", "host": "siaran.test"}, "http", True),
        ({"origin": "https://shop.example", "sec-fetch-site": "cross-site", "host": "siaran.test"}, "http", False),
    ],
)
def test_a_browser_says_where_a_request_comes_from(headers: dict[str, str], scheme: str, cross: bool):
    assert is_cross_site(Headers(headers), scheme, {"https://shop.example"}) is cross


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_another_site_cannot_change_anything_with_the_cookie(api: AsyncClient, headers: dict[str, str]):
    client = await register(api)
    answer = await client.patch("/api/me", json={"fullname": "Mallory"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get("/api/me", headers=headers)).json()["results"]["fullName"] == "Aisyah"


async def test_another_site_cannot_log_a_browser_in_as_someone_else(api: AsyncClient):
    await register(api)
    body = {"email": "aisyah@example.com", "password": PASSWORD}
    answer = await api.post("/login", json=body, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_the_own_site_may_change_things(api: AsyncClient):
    client = await register(api)
    answer = await client.patch("/api/me", json={"country": "SG"}, headers={"Origin": BASE_URL})
    assert answer.status_code == 200


async def test_a_token_in_a_header_is_proof_enough_but_not_beside_the_cookie(api: AsyncClient):
    client = await register(api)
    token = client.cookies["session_token"]
    foreign = {"Origin": "chrome-extension://abcdef"}
    script = another_client(api, authorization=f"Bearer {token}")
    assert (await script.patch("/api/me", json={"country": "SG"}, headers=foreign)).status_code == 200
    both = await client.patch("/api/me", json={"country": "MY"}, headers=foreign | {"X-Auth-Token": token})
    assert both.status_code == 403


async def test_an_allowed_origin_may_change_things(settings: Settings):
    app = create_app(settings.model_copy(update={"allowed_origins": ("https://shop.example",)}))
    async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as api:
        client = await register(api)
        for origin, status in (("https://shop.example", 200), ("https://other.example", 403)):
            assert (await client.patch("/api/me", json={"country": "SG"}, headers={"Origin": origin})).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Referer": "http://evil.example/page"}, 403),
        ({"Referer": f"{BASE_URL}/dashboard"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({}, 200),
    ],
)
async def test_a_link_on_another_site_cannot_log_anyone_out(api: AsyncClient, headers: dict[str, str], status: int):
    client = await register(api)
    token = client.cookies["session_token"]
    assert (await client.get("/logout", headers=headers)).status_code == status
    still_in = (await another_client(api, x_auth_token=token).get("/api/me")).status_code == 200
    assert still_in is (status == 403)


async def test_every_unsafe_route_is_guarded(app: FastAPI, api: AsyncClient):
    client = await register(api)
    for path, item in app.openapi()["paths"].items():
        for method in set(item) - {"get", "head"}:
            answer = await client.request(method, path, headers={"Origin": "http://evil.example"})
            assert (method, path, answer.status_code) == (method, path, 403)


async def test_every_link_that_changes_something_is_guarded(app: FastAPI, api: AsyncClient):
    # What asks WhatsApp in an account's name counts as a change: it uses up what the account may ask.
    changing = {
        "/logout", "/app/logout", "/app/reconnect", "/app/login", "/app/login-with-code", "/app/qr", "/user/check",
    } & set(app.openapi()["paths"])  # fmt: skip
    client = await register(api)
    query = {"deviceId": "6b7e6c9e-0d5c-4a0c-9d0e-0a1b2c3d4e5f", "device_id": "6b7e6c9e-0d5c-4a0c-9d0e-0a1b2c3d4e5f"}
    for path in changing:
        answer = await client.get(path, params=query | {"phone": "1"}, headers={"Sec-Fetch-Site": "cross-site"})
        assert (path, answer.status_code) == (path, 403)
