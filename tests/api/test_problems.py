"""Errors as problem+json."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from httpx import AsyncClient, Response
from pydantic import BaseModel, Field
from sqlalchemy import text

from api.auth import UserDep
from api.context import ContextDep
from api.problems import STATUS_BY_ERROR
from siaran import errors
from tests.api.conftest import register

MEMBERS = {"type", "title", "status", "detail", "errors", "code", "message"}


class Step(BaseModel):
    day: int = Field(ge=1)


class Plan(BaseModel):
    steps: list[Step]


@pytest.fixture
async def probes(app: FastAPI, api: AsyncClient) -> AsyncClient:
    """A client of the application with routes that fail in every way; returns who is logged in."""
    router = APIRouter(prefix="/probe")

    @router.post("/plan")
    async def validate(_: UserDep, body: Plan, limit: Annotated[int, Query(le=10)] = 1) -> int:
        return limit + len(body.steps)

    @router.get("/bug")
    async def fail() -> None:
        raise RuntimeError("the secret is 60123456789")

    @router.get("/outage")
    async def lose_database(context: ContextDep) -> None:
        async with context.sessions.begin() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    @router.get("/refused")
    async def wait() -> None:
        raise errors.TooManyRequests(7)

    app.include_router(router)
    return await register(api)


def check(answer: Response, status: int, code: str) -> dict[str, object]:
    """Assert that an answer is the problem expected; returns it."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, object] = answer.json()
    assert set(problem) >= MEMBERS
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:siaran:problem:{code.lower().replace('_', '-')}"
    assert problem["message"] == problem["detail"]
    return problem


def test_every_error_has_a_status():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SiaranError)]
    assert set(kinds) <= set(STATUS_BY_ERROR)


async def test_an_unknown_path_is_a_problem(api: AsyncClient):
    check(await api.get("/no/such/page"), 404, "NOT_FOUND")


async def test_a_wrong_method_is_a_problem_that_names_the_right_one(api: AsyncClient):
    answer = await api.put("/login")
    check(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


async def test_validation_names_fields_by_dotted_paths(probes: AsyncClient):
    answer = await probes.post("/probe/plan?limit=99", json={"steps": [{"day": 1}, {"day": 0}, {}]})
    problem = check(answer, 422, "VALIDATION_ERROR")
    fields = {error["field"]: error["reason"] for error in problem["errors"]}  # type: ignore[attr-defined]  # a list in JSON
    assert set(fields) == {"limit", "steps.1.day", "steps.2.day"}
    assert "greater than or equal to 1" in fields["steps.1.day"]


async def test_validation_does_not_repeat_what_was_sent(api: AsyncClient):
    answer = await api.post("/login", json={"email": "a@example.com", "password": "hunter2" * 100})
    check(answer, 422, "VALIDATION_ERROR")
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("body", ["{not json", "", "[]", "null", '"text"'])
async def test_a_body_that_is_no_object_is_a_problem_of_the_body(api: AsyncClient, body: str):
    answer = await api.post("/login", content=body, headers={"Content-Type": "application/json"})
    problem = check(answer, 422, "VALIDATION_ERROR")
    assert [error["field"] for error in problem["errors"]] == ["body"]  # type: ignore[attr-defined]  # a list in JSON


async def test_an_unforeseen_error_shows_only_the_id_of_its_log_line(probes: AsyncClient):
    answer = await probes.get("/probe/bug")
    problem = check(answer, 500, "INTERNAL_SERVER_ERROR")
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_outage_asks_to_try_again(probes: AsyncClient):
    answer = await probes.get("/probe/outage")
    check(answer, 503, "UNAVAILABLE")
    assert int(answer.headers["retry-after"]) > 0
    assert (await probes.get("/api/me")).status_code == 200


async def test_a_value_that_no_column_can_hold_is_refused(api: AsyncClient):
    answer = await api.post("/register", json={"fullname": "A\0B", "email": "nul@example.com", "password": "long enough"})
    check(answer, 422, "VALIDATION_ERROR")


async def test_a_limit_says_when_to_come_back(probes: AsyncClient):
    answer = await probes.get("/probe/refused")
    check(answer, 429, "TOO_MANY_REQUESTS")
    assert answer.headers["retry-after"] == "7"


async def test_someone_unknown_is_told_how_to_show_who_they_are(api: AsyncClient):
    answer = await api.get("/api/me")
    check(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused(api: AsyncClient, declared: bool):
    async def body() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * 2**20

    content = b"x" * (9 * 2**20) if declared else body()
    answer = await api.post("/login", content=content, headers={"Content-Type": "application/json"})
    check(answer, 413, "TOO_LARGE")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_route_may_take_larger_bodies(app: FastAPI, api: AsyncClient):
    router = APIRouter()

    @router.post("/probe/upload", max_body_size=10 * 2**20)
    async def measure(request: Request) -> int:
        return len(await request.body())

    app.include_router(router)
    assert (await api.post("/probe/upload", content=b"x" * (9 * 2**20))).json() == 9 * 2**20
    check(await api.post("/probe/upload", content=b"x" * (11 * 2**20)), 413, "TOO_LARGE")


async def test_a_file_of_leads_may_be_larger_than_other_bodies(api: AsyncClient):
    client = await register(api)
    rows = b"name,phone,additional_note\n" + (b"x,not a number," + b"n" * 9000 + b"\n") * 1100
    answer = await client.post("/api/leads/import?dry_run=true", files={"file": ("leads.csv", rows, "text/csv")})
    assert answer.status_code == 200
