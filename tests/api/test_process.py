"""`python -m api` as a process of its own."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from httpx import AsyncClient, ConnectError
from pydantic import SecretStr

from api.__main__ import is_loopback
from siaran.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The variables that give a process the settings of a test."""
    assert isinstance(settings.database_url, SecretStr)
    assert isinstance(settings.redis_url, SecretStr)
    assert settings.temporal_address
    stores = {
        "DB_URI": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "TEMPORAL_ADDRESS": settings.temporal_address,
        "TEMPORAL_NAMESPACE": settings.temporal_namespace,
    }
    return {"PATH": os.environ["PATH"]} | stores | more


@asynccontextmanager
async def start(settings: Settings, port: int, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The API as a process that does not outlive the test."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api"),
        env=environment(settings, APP_PORT=str(port), **more),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def wait_until_it_answers(port: int) -> None:
    async with AsyncClient() as client, asyncio.timeout(30):
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200:
                    return
            except ConnectError:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_told_to_stop_and_ends_well(settings: Settings, stop: signal.Signals):
    port = free_port()
    async with start(settings, port) as process:
        await wait_until_it_answers(port)
        process.send_signal(stop)
        _, errors = await asyncio.wait_for(process.communicate(), 15)
    assert (process.returncode, b"Traceback" in errors) == (0, False), errors.decode()


async def test_a_port_that_is_taken_is_named(settings: Settings):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        async with start(settings, port) as process:
            _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert f"'127.0.0.1', {port}): address already in use" in errors.decode()


async def test_it_refuses_to_let_others_connect_while_the_published_password_stands(settings: Settings):
    port = free_port()
    async with start(settings, port, SIARAN_BIND="0.0.0.0") as process:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert f"refusing to listen on 0.0.0.0:{port}" in errors.decode()
    async with start(settings, port, SIARAN_BIND="0.0.0.0", APP_BASIC_AUTH="boss:a long secret"):
        await wait_until_it_answers(port)
        async with AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for email, password, status in (
                ("admin@whatsapp.com", "changeme123", 401),
                ("boss@whatsapp.com", "a long secret", 200),
            ):
                assert (await client.post("/login", json={"email": email, "password": password})).status_code == status


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("siaran.example", False), ("", False)],
)  # fmt: skip
def test_only_loopback_counts_as_loopback(address: str, loopback: bool):
    assert is_loopback(address) is loopback
