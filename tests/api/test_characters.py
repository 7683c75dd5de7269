"""Half characters in requests: JSON can write them, PostgreSQL and UTF-8 cannot."""

import json

import pytest
from httpx import AsyncClient, Response

from tests.api.conftest import register

HALF = "\ud83d"
CAMPAIGN = {"title": "T", "target_status": "prospect", "message": "M", "send_now": True}


async def post(client: AsyncClient, path: str, body: object, method: str = "POST") -> Response:
    return await client.request(method, path, content=json.dumps(body), headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/api/devices", {"name": HALF}, ["name"]),
        ("/api/leads", {"name": f"Ali {HALF}", "phone": "0123456789", "note": HALF}, ["name", "note"]),
        ("/api/campaigns", {**CAMPAIGN, "message": HALF}, ["message"]),
        ("/login", {"email": HALF, "password": HALF}, ["email", "password"]),
        ("/api/login", {"email": "a@example.com", "password": f"x{HALF}"}, ["password"]),
        ("/api/leads", {"name": {"first": ["Ali", HALF]}}, ["name.first.1"]),
        ("/api/leads", {"name": "Ali", HALF: 1}, ["body"]),
        ("/api/leads", HALF, ["body"]),
    ],
)
async def test_half_a_character_is_refused_by_the_name_of_its_field(
    api: AsyncClient, path: str, body: object, fields: list[str]
) -> None:
    client = await register(api)

    answer = await post(client, path, body)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["field"] for error in answer.json()["errors"]] == fields


@pytest.mark.parametrize("raw", [b'{"name": "\xed\xa0\xbd"}', '{"name": "\\ud83d"}'.encode("utf-16")])
async def test_half_a_character_is_refused_however_it_is_written(api: AsyncClient, raw: bytes) -> None:
    client = await register(api)

    answer = await client.post("/api/devices", content=raw, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "name")


async def test_an_edit_with_half_a_character_changes_nothing(api: AsyncClient) -> None:
    client = await register(api)
    device = (await client.post("/api/devices", json={"name": "Shop"})).json()["results"]["device"]

    answer = await post(client, f"/api/devices/{device['id']}", {"name": HALF}, "PUT")

    assert answer.status_code == 422
    assert (await client.get(f"/api/devices/{device['id']}")).json()["results"]["name"] == "Shop"


@pytest.mark.parametrize("name", ["Kedai 😀", "\u00edx", "\ufffd", "한국어"])
async def test_whole_characters_pass_escaped_or_not(api: AsyncClient, name: str) -> None:
    client = await register(api)
    headers = {"content-type": "application/json"}

    for content in (json.dumps({"name": name}), json.dumps({"name": name}, ensure_ascii=False).encode()):
        answer = await client.post("/api/devices", content=content, headers=headers)
        assert answer.status_code == 201
        assert answer.json()["results"]["device"]["name"] == name


async def test_a_body_that_is_no_json_is_refused_as_before(api: AsyncClient) -> None:
    client = await register(api)

    answer = await client.post("/api/devices", content='{"name": "\\ud83d', headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["errors"][0]["reason"]) == (422, "is not valid JSON")
