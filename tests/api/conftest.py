"""Fixtures of the API tests: the application on this test's servers, and people who are logged in to it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import structlog
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from api.app import create_app
from siaran.clock import system_clock
from siaran.settings import Settings

BASE_URL = "http://siaran.test"
PASSWORD = "correct horse battery"
ADMIN_EMAIL = "admin@whatsapp.com"
ADMIN_PASSWORD = "changeme123"


class MovableClock:
    """The machine's clock, moved ahead as far as a test says."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.ahead += by


@pytest.fixture(scope="session", autouse=True)
def _short_tracebacks() -> None:
    """Keep structlog from drawing every local variable of a traceback, which takes seconds."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, plain])


@pytest.fixture
def clock() -> MovableClock:
    """The clock of the application under test."""
    return MovableClock()


@pytest.fixture
async def app(settings: Settings, clock: MovableClock) -> AsyncIterator[FastAPI]:
    """The application on this test's servers, started."""
    app = create_app(settings, clock=clock)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """A client that is not logged in."""
    async with AsyncClient(transport=ASGITransport(app), base_url=BASE_URL) as client:
        yield client


def another_client(api: AsyncClient, **headers: str) -> AsyncClient:
    """A client of the same application with no cookies; headers are given as `x_auth_token="…"`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return AsyncClient(transport=api._transport, base_url=BASE_URL, headers=named)


async def register(
    api: AsyncClient, *, email: str = "aisyah@example.com", full_name: str = "Aisyah", password: str = PASSWORD
) -> AsyncClient:
    """Register someone; returns a client that holds their cookie."""
    client = another_client(api)
    answer = await client.post("/register", json={"fullname": full_name, "email": email, "password": password})
    assert answer.status_code == 201, answer.text
    return client


async def log_in(api: AsyncClient, *, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> AsyncClient:
    """Log someone in, the first administrator unless told otherwise; returns a client that holds their cookie."""
    client = another_client(api)
    answer = await client.post("/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return client
