"""The OpenAPI document and its page."""

import re
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.conftest import another_client

PLACEHOLDERS = {"integer": "1", "string": "00000000-0000-0000-0000-000000000000"}


@pytest.fixture
def operations(app: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation of the API as method, path and description."""
    paths = app.openapi()["paths"].items()
    return [(method, path, operation) for path, item in paths for method, operation in item.items()]


def test_every_operation_says_what_it_does_and_how_it_fails(operations: list[tuple[str, str, dict[str, Any]]]):
    for method, path, operation in operations:
        assert operation.get("description"), f"{method} {path} has no docstring"
        assert operation["tags"], f"{method} {path} has no tag"
        for status in ("401", "403", "404", "422", "503"):
            assert "application/problem+json" in operation["responses"][status]["content"]


def test_every_tag_is_explained(app: FastAPI, operations: list[tuple[str, str, dict[str, Any]]]):
    explained = {tag["name"] for tag in app.openapi()["tags"]}
    assert {tag for _, _, operation in operations for tag in operation["tags"]} <= explained


def test_every_reference_in_the_document_leads_somewhere(app: FastAPI):
    document = app.openapi()
    found = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", repr(document)))
    assert found <= set(document["components"]["schemas"])
    assert {"Problem", "ProblemField"} <= found


async def test_every_operation_not_marked_as_public_needs_a_login(
    api: AsyncClient, operations: list[tuple[str, str, dict[str, Any]]]
):
    public = set()
    for method, path, operation in operations:
        if operation.get("security") == []:
            public.add(path)
            continue
        kinds = {parameter["name"]: parameter["schema"].get("type", "string") for parameter in operation.get("parameters", [])}
        filled = re.sub(r"{(\w+)}", lambda name: PLACEHOLDERS[kinds[name[1]]], path)  # noqa: B023 -- called at once
        answer = await another_client(api).request(method, filled)
        assert (method, path, answer.status_code) == (method, path, 401)
    assert public == {
        "/login", "/api/login", "/register", "/api/register", "/logout", "/api/logout", "/api/password-reset",
        "/health", "/health/ready", "/metrics",
    }  # fmt: skip


async def test_the_docs_page_needs_nothing_from_outside(api: AsyncClient):
    page = await api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("<!doctype html>", "")
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        answer = await api.get(asset)
        assert (asset, answer.status_code) == (asset, 200)
        assert answer.content
    start = (await api.get("/docs/start.js")).text
    assert '"/openapi.json"' in start
    assert (await api.get("/openapi.json")).json()["info"]["title"] == "Siaran"
