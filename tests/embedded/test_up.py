"""`siaran up`: everything starts, stops cleanly, and says what is in its way."""

import asyncio
import os
import signal
import socket
import sysconfig
from pathlib import Path

import httpx
import psutil

from siaran.embedded.options import PORTS
from siaran.embedded.runtime import Runtime, read_runtime
from siaran.embedded.supervisor import ChildState
from tests.waiting import eventually

SIARAN = str(Path(sysconfig.get_path("scripts")) / "siaran")
APP = ("api", "worker", "fleet")
CHILDREN = {"postgres", "valkey", "network", "temporal", *APP}


async def start(data_dir: Path, **variables: str) -> asyncio.subprocess.Process:
    free = {variable: "0" for _, variable in PORTS.values()}
    environment = {**os.environ, **free, "SIARAN_POSTGRES_FSYNC": "off", "SIARAN_DATA_DIR": str(data_dir), **variables}
    return await asyncio.create_subprocess_exec(
        SIARAN, "up", env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )


async def wait_until_up(up: asyncio.subprocess.Process, data_dir: Path) -> Runtime:
    """Return what runs once the addresses have been printed; fails with the output when the program ends instead."""
    assert up.stdout is not None
    async with asyncio.timeout(120):
        output = b""
        while b"Ctrl-C" not in output:
            line = await up.stdout.readline()
            assert line, output.decode()
            output += line
    runtime = read_runtime(data_dir)
    assert runtime is not None
    return runtime


async def stop(up: asyncio.subprocess.Process, number: signal.Signals) -> None:
    children = psutil.Process(up.pid).children(recursive=True)
    assert children
    up.send_signal(number)
    async with asyncio.timeout(120):
        output, _ = await up.communicate()
    assert up.returncode == 0, output.decode()
    assert [child for child in children if child.is_running()] == []


async def test_everything_runs_comes_back_when_killed_stops_on_a_signal_and_finds_its_data_again(data_dir: Path) -> None:
    account = {"fullname": "Aminah", "email": "aminah@example.com", "password": "kopi-o-kosong-9"}
    up = await start(data_dir)
    runtime = await wait_until_up(up, data_dir)
    assert {child.name for child in runtime.children if child.pid} == CHILDREN
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runtime.ports['api']}", trust_env=False) as client:
        assert await answers(client)
        assert (await client.get(runtime.environment["TEMPORAL_UI_URL"])).status_code == 200
        for child in children(data_dir, *APP):
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
        await eventually(lambda: [child.restarts for child in children(data_dir, *APP)] == [1, 1, 1])
        await eventually(lambda: answers(client), within=30)
        assert (await client.post("/api/register", json=account)).status_code == 201
    await stop(up, signal.SIGINT)
    assert read_runtime(data_dir) is None

    up = await start(data_dir)
    runtime = await wait_until_up(up, data_dir)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runtime.ports['api']}", trust_env=False) as client:
        assert (await client.post("/api/login", json=account)).status_code == 200
    await stop(up, signal.SIGTERM)


def children(data_dir: Path, *names: str) -> list[ChildState]:
    runtime = read_runtime(data_dir)
    return [child for child in runtime.children if child.name in names] if runtime else []


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == 200
    except httpx.TransportError:
        return False


async def test_a_taken_port_is_an_error_that_names_it(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up = await start(data_dir, APP_PORT=str(port))
        output, _ = await up.communicate()
    assert up.returncode == 1
    assert f"Port {port} for the API is taken" in output.decode()
    assert "APP_PORT" in output.decode()


async def test_a_value_that_makes_no_sense_is_an_error_that_names_the_variable(data_dir: Path) -> None:
    up = await start(data_dir, SIARAN_VALKEY_PORT="many")
    output, _ = await up.communicate()
    assert up.returncode == 2
    assert "SIARAN_VALKEY_PORT" in output.decode()
