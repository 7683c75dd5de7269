"""Fixtures of the command line's tests: an API that listens, and commands that are run against it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
from typer.testing import CliRunner

from api.app import create_app
from cli import output
from cli.client import Client
from cli.logins import Login
from cli.main import app
from siaran.settings import Settings

EMAIL = "aisyah@example.com"
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Run:
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    def document(self) -> Any:
        """The one JSON document on standard output."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs commands as one user of this machine does, with a configuration folder of their own."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    async def run(self, *words: str, stdin: str = "", **variables: str) -> Run:
        environment = {"XDG_CONFIG_HOME": str(self.folder), "COLUMNS": "200", **self.variables, **variables}
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), input=stdin, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Run(result.exit_code, result.stdout, result.stderr)

    async def done(self, *words: str, stdin: str = "", **variables: str) -> Run:
        """Run a command that has to succeed."""
        run = await self.run(*words, stdin=stdin, **variables)
        assert run.exit_code == 0, (words, run)
        return run

    async def json(self, *words: str) -> Any:
        """The document of a command that has to succeed."""
        return (await self.done(*words, "--json")).document()


@pytest.fixture(autouse=True)
def _as_wide_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console whose variables were set when it was imported keeps that size for good, and pytest-xdist sets them."""
    for console in (output.console, output.errors):
        monkeypatch.setattr(console, "_width", None)
        monkeypatch.setattr(console, "_height", None)


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[str]:
    """The API on any free port; yields its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_config=None, ws="none"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


@pytest.fixture
def _api_logs_elsewhere() -> Iterator[None]:
    """Keep what the API logs out of what a command prints: here both are one process, and commands swap its output."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def url(settings: Settings, _api_logs_elsewhere: None) -> AsyncIterator[str]:
    """Where the API of this test listens."""
    async with listening(settings) as address:
        yield address


@pytest.fixture
def stranger(url: str, tmp_path: Path) -> Shell:
    """Somebody who is not logged in."""
    return Shell(tmp_path / "config", {"SIARAN_URL": url})


@pytest.fixture
async def shell(stranger: Shell, url: str) -> Shell:
    """Somebody who has registered and logged in."""
    with Client(Login(url)) as client:
        account = {"fullname": "Aisyah", "email": EMAIL, "password": PASSWORD}
        await asyncio.to_thread(client.request, "POST", "/api/register", body=account)
    await stranger.done("login", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n")
    return stranger
