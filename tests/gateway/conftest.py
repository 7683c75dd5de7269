"""Fixtures for the simulated network: one without delays, transports to it with their events, and a Valkey to kill."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from siaran.embedded.options import StackOptions, choose_ports
from siaran.embedded.valkey import EmbeddedValkey
from siaran.errors import Unavailable
from siaran.gateway.interface import Incoming, Receipt, StateChanged, Transport, TransportEvent
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork

Event = TypeVar("Event", StateChanged, Receipt, Incoming)


class Client:
    """A transport and the events it has reported so far."""

    def __init__(self, url: str) -> None:
        self.transport: Transport = SimulatedTransport(url)
        self.events: list[TransportEvent] = []

    async def collect(self) -> None:
        async for event in self.transport.events():
            self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


NewClient = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def client_factory(url: str) -> AsyncIterator[NewClient]:
    """Opens transports and closes them at the end, like host processes that come and go."""
    opened: list[tuple[Client, asyncio.Task[None]]] = []

    async def open_client() -> Client:
        client = Client(url)
        await client.transport.open()
        opened.append((client, asyncio.create_task(client.collect())))
        return client

    yield open_client
    for client, task in opened:
        await client.transport.close()
        await task


@pytest.fixture
async def network(network_url: str) -> AsyncIterator[SimulatedNetwork]:
    """The simulated network, without delays: each message is acknowledged and received at once."""
    async with SimulatedNetwork(network_url) as network:
        await network.configure(latency_ms=(0, 0), delivered_seconds=(0, 0), read_rate=0)
        yield network


@pytest.fixture
async def new_client(network_url: str, network: SimulatedNetwork) -> AsyncIterator[NewClient]:
    """Opens another transport to the network."""
    async with client_factory(network_url) as open_client:
        yield open_client


@pytest.fixture
async def client(new_client: NewClient) -> Client:
    """One transport to the network."""
    return await new_client()


class NetworkServer:
    """A Valkey of its own for the simulated network, which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        port = choose_ports(StackOptions().with_free_ports(), ["network_port"]).network_port
        self._valkey = EmbeddedValkey(
            name="network", title="Simulated network", folder=folder, port=port, password="secret", append_only=True
        )
        self._valkey.initialise()
        self._process: asyncio.subprocess.Process | None = None
        self._folder = folder

    @property
    def url(self) -> str:
        return self._valkey.url

    async def start(self) -> None:
        command = self._valkey.child().command
        self._process = await asyncio.create_subprocess_exec(*command, cwd=self._folder, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(10), SimulatedNetwork(self.url) as network:
            while True:
                try:
                    await network.transmitted()
                except Unavailable:
                    await asyncio.sleep(0.02)
                else:
                    return

    async def kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NetworkServer]:
    """A network's Valkey that the test may kill."""
    server = NetworkServer(tmp_path)
    await server.start()
    yield server
    await server.kill()
