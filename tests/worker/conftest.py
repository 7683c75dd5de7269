"""Fixtures of the worker's tests: a host that runs in this process, on the simulated network."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from siaran.clock import system_clock
from siaran.db import SessionMaker
from siaran.gateway.simulated import SimulatedTransport
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.models import Device, DeviceStatus
from siaran.settings import Settings
from tests.ledger.driver import Ledger
from worker import connections, membership, queues
from worker.host import Host


class FixedTransport(SimulatedTransport):
    """The simulated network under the rule of the real client: all devices are connected before any is used."""

    connects_while_serving = False

    def __init__(self, network_url: str) -> None:
        super().__init__(network_url)
        self.frozen: dict[UUID, datetime] = {}

    def frozen_since(self, device_id: UUID) -> datetime | None:
        """What a test says: nothing on the simulated network is ever silent by itself."""
        return self.frozen.get(device_id)


class RunningHost:
    """A host at work; `add_device` gives it one more, linked and not yet connected."""

    def __init__(self, ledger: Ledger, network: SimulatedNetwork, host: Host, transport: SimulatedTransport) -> None:
        self.ledger = ledger
        self.network = network
        self.host = host
        self.transport = transport

    async def add_device(self) -> Device:
        """A linked device that the fleet has just placed here."""
        device = await self.ledger.device(status=DeviceStatus.CONNECTING)
        return await self.link(device)

    async def link(self, device: Device) -> Device:
        """Link a device, anew if it was linked before."""
        ref = (await self.network.link(device.id, device.phone)).ref
        device.jid, device.link_generation, device.host_id = ref.jid, ref.link_generation, self.ledger.host.id
        device.status = DeviceStatus.CONNECTING
        await self.ledger.change(device)
        return device

    async def device(self, device: Device) -> Device:
        """The device as it stands now."""
        async with self.ledger.sessions() as session:
            return await session.get_one(Device, device.id)

    async def reach(self, device: Device, status: DeviceStatus) -> Device:
        """Return once the device's row says so."""
        async with asyncio.timeout(10):
            while (row := await self.device(device)).status is not status:  # noqa: ASYNC110 -- another task writes it
                await asyncio.sleep(0.02)
        return row


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    """Return once the answer is yes; raises `TimeoutError` after ten seconds."""
    async with asyncio.timeout(10):
        while not await question():  # noqa: ASYNC110 -- it happens on a server
            await asyncio.sleep(0.02)


@pytest.fixture
async def running_host(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    temporal_client: Client,
    network_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[RunningHost]:
    """A host without devices that looks at its rows all the time."""
    monkeypatch.setattr(connections, "RECONCILE_SECONDS", 0.05)
    monkeypatch.setattr(connections, "RETRY_AFTER", timedelta(seconds=0.1))
    monkeypatch.setattr(queues, "RECONCILE_SECONDS", 0.05)
    monkeypatch.setattr(queues, "KEEP_OPEN", timedelta(seconds=0.3))
    ledger = Ledger(sessions)
    await ledger.open()
    transport = SimulatedTransport(network_url)
    host = Host(
        ledger.host.id,
        settings=settings,
        sessions=sessions,
        redis=redis,
        client=temporal_client,
        transport=transport,
        clock=system_clock,
    )
    stop = asyncio.Event()
    run = asyncio.create_task(host.run(stop))
    async with SimulatedNetwork(network_url) as network:
        await network.configure(latency_ms=(0, 0), delivered_seconds=(0, 0), read_rate=0)
        yield RunningHost(ledger, network, host, transport)
    stop.set()
    await run


StartHost = Callable[[], AbstractAsyncContextManager["FixedHost"]]


class FixedHost(RunningHost):
    """A host that cannot connect devices while it serves; `run` ends when it wants to be renewed."""

    transport: FixedTransport
    run: "asyncio.Task[None]"

    async def freeze(self, device: Device) -> Device:
        """Have a device answer nothing once it is online; its row when that has been seen."""
        await self.reach(device, DeviceStatus.ONLINE)
        self.transport.frozen[device.id] = system_clock()
        return await self.reach(device, DeviceStatus.OFFLINE)

    async def renewed(self) -> str:
        """Why the host has ended to be renewed, once it has."""
        async with asyncio.timeout(10):
            await self.run
        assert self.host.renewal.is_asked
        return self.host.renewal.reason


@pytest.fixture
async def fixed_host(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    temporal_client: Client,
    network_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[RunningHost, StartHost]]:
    """Somewhere to add devices, and what then starts the host that holds them, again if wanted."""
    monkeypatch.setattr(membership, "RECONCILE_SECONDS", 0.05)
    monkeypatch.setattr(queues, "RECONCILE_SECONDS", 0.05)
    ledger = Ledger(sessions)
    await ledger.open()

    def make(transport: FixedTransport) -> Host:
        return Host(
            ledger.host.id,
            settings=settings,
            sessions=sessions,
            redis=redis,
            client=temporal_client,
            transport=transport,
            clock=system_clock,
        )

    async with SimulatedNetwork(network_url) as network:
        await network.configure(latency_ms=(0, 0), delivered_seconds=(0, 0), read_rate=0)

        @asynccontextmanager
        async def start() -> AsyncIterator[FixedHost]:
            transport, stop = FixedTransport(network_url), asyncio.Event()
            host = make(transport)
            running = FixedHost(ledger, network, host, transport)
            running.run = asyncio.create_task(host.run(stop))
            try:
                yield running
            finally:
                stop.set()
                await running.run

        idle = FixedTransport(network_url)
        yield RunningHost(ledger, network, make(idle), idle), start
